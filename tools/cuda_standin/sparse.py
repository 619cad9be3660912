"""Artifacts of any size whose weights are zeros that take no disk: for what does not depend on values.

python -m tools.cuda_standin.sparse OUT [int4 …]        # of Dream 7B, for CUDA
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from dream_edge.models import bundled
from dream_edge_runtime.format.layout import plan_layout
from dream_edge_runtime.format.manifest import MANIFEST, FileEntry, Manifest
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.graph.model import GRAPH_REVISION, derive_graph

SCHEMES = ("int4", "mixed", "nf4", "int8", "fp16")


def dream_7b(layers: int = 28) -> ModelConfig:
    """Dream 7B's geometry, with the tiny one's tokens; of fewer layers, if that is enough."""
    return replace(
        Manifest.read(bundled("tiny_int8")).config,
        num_hidden_layers=layers,
        hidden_size=3584,
        intermediate_size=18944,
        num_attention_heads=28,
        num_key_value_heads=4,
        head_dim=128,
        vocab_size=152064,
        max_position_embeddings=131072,
        context=2048,
    )


def qwen3_06b(layers: int = 28) -> ModelConfig:
    """The smallest of the family with norms of heads: block-causal, a tied head."""
    return replace(
        dream_7b(layers),
        hidden_size=1024,
        intermediate_size=3072,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
        tie_word_embeddings=True,
        attention_bias=False,
        qk_norm=True,
        causal_block=32,
        shift=0,
    )


def dreamreasoner_8b(layers: int = 36) -> ModelConfig:
    """DreamReasoner's geometry."""
    return replace(
        qwen3_06b(layers),
        hidden_size=4096,
        intermediate_size=12288,
        num_attention_heads=32,
        tie_word_embeddings=False,
    )


def write_sparse(config: ModelConfig, scheme: str, out: Path) -> Path:
    """An artifact for CUDA in `out`, whole but for the digests of its files."""
    out.mkdir(parents=True, exist_ok=True)
    source = bundled("tiny_int8")
    recipe = Recipe.for_scheme(scheme, target="cuda", layers=config.num_hidden_layers).fit(config)
    small = {"tokenizer.json": (source / "tokenizer.json").read_bytes(), "model_cuda.onnx": b""}
    small["model_cuda.onnx"] = derive_graph(config, recipe, "cuda")
    for name, data in small.items():
        (out / name).write_bytes(data)
    sizes = plan_layout(config, recipe).sizes()
    for name, size in sizes.items():
        with (out / name).open("wb") as file:
            file.truncate(size)
    sizes |= {name: len(data) for name, data in small.items()}
    manifest = replace(
        Manifest.read(source),
        files=tuple(FileEntry(name, size, "0" * 64) for name, size in sizes.items()),
        graphs={"cuda": "model_cuda.onnx"},
        graph_revision=GRAPH_REVISION,
        config=config,
        recipe=recipe,
    )
    (out / MANIFEST).write_bytes(manifest.to_json())
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("schemes", nargs="*", default=SCHEMES)
    given = parser.parse_args()
    for each in given.schemes:
        print(write_sparse(dream_7b(), each, given.out / each))

"""Random checkpoints of any small geometry, on disk, in the layout of Dream's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from dream_edge_export.checkpoint.forms import parse_config
from dream_edge_runtime.format.model_config import ModelConfig

from .vocabulary import special_ids, write_tokenizer

VOCAB_SIZE = 448
GEOMETRY: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
}
BLOCK_CAUSAL: dict[str, Any] = {
    "architectures": ["DreamForCausalLM"],
    "attention_bias": False,
    "block_size": 8,
    "head_dim": 24,
}
"""What makes a config.json of Qwen3's form and of block-causal attention of Dream's, as DreamReasoner's is."""
FORM: dict[str, Any] = {"head_dim": 16, "attention_bias": True, "qk_norm": False, "causal_block": None}
"""What follows of Dream's config.json, as a configuration states it."""


def write_checkpoint(
    directory: Path, *, dtype: torch.dtype = torch.float32, shards: int = 1, seed: int = 0, **geometry: Any
) -> ModelConfig:
    """Write config.json, weights, tokenizer and generation_config.json; `geometry` are fields of the configuration.

    The weights are seeded and scaled so that logits differ clearly from one position to the next.
    """
    directory.mkdir(parents=True, exist_ok=True)
    raw = config_dict(dtype=dtype, **geometry)
    config = parse_config(raw)
    _write_json(directory / "config.json", raw)
    _write_json(directory / "generation_config.json", {"alg": "origin", "steps": 512, "eps": 1e-3, "temperature": 0.0})
    write_tokenizer(directory)
    write_weights(directory, random_weights(config, dtype=dtype, seed=seed), shards=shards)
    return config


def config_dict(*, dtype: torch.dtype = torch.float32, **geometry: Any) -> dict[str, Any]:
    """A config.json with the fields of Dream's own."""
    return {
        "architectures": ["DreamModel"],
        "attention_dropout": 0.0,
        "auto_map": {"AutoModel": "modeling_dream.DreamModel"},
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_window_layers": 28,
        "model_type": "Dream",
        "rope_scaling": None,
        "sliding_window": None,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "transformers_version": "4.46.2",
        "use_cache": True,
        "use_sliding_window": False,
        **GEOMETRY,
        **special_ids(),
        **geometry,
    }


def random_weights(
    config: ModelConfig, *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Every tensor of a Dream checkpoint by name. The shapes are spelt out here, independently of the exporter's."""
    hidden, intermediate, head = config.hidden_size, config.intermediate_size, config.head_dim
    query, kv = config.num_attention_heads * head, config.num_key_value_heads * head
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}"
        shapes[f"{layer}.input_layernorm.weight"] = (hidden,)
        for name, width in (("q", query), ("k", kv), ("v", kv)):
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (width, hidden)
            if config.attention_bias:
                shapes[f"{layer}.self_attn.{name}_proj.bias"] = (width,)
        for name in ("q", "k") if config.qk_norm else ():
            shapes[f"{layer}.self_attn.{name}_norm.weight"] = (head,)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (hidden, query)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
        shapes[f"{layer}.mlp.gate_proj.weight"] = (intermediate, hidden)
        shapes[f"{layer}.mlp.up_proj.weight"] = (intermediate, hidden)
        shapes[f"{layer}.mlp.down_proj.weight"] = (hidden, intermediate)
    shapes["model.norm.weight"] = (hidden,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    generator = torch.Generator().manual_seed(seed)
    weights = {name: _random(name, shape, generator).to(dtype) for name, shape in shapes.items()}
    if not config.tie_word_embeddings:  # a tied one is an lm_head too: logits of about 1 either way
        weights["model.embed_tokens.weight"] *= hidden**0.5
    return weights


def write_weights(directory: Path, weights: Mapping[str, torch.Tensor], *, shards: int = 1) -> None:
    """model.safetensors, or `shards` files and their index."""
    if shards == 1:
        save_file(dict(weights), directory / "model.safetensors", metadata={"format": "pt"})
        return
    names, weight_map = list(weights), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        save_file({name: weights[name] for name in part}, directory / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    size = sum(tensor.nbytes for tensor in weights.values())
    _write_json(
        directory / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map}
    )


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(shape, generator=generator)
    if name.endswith("norm.weight"):
        return 1 + 0.1 * noise
    if name.endswith("bias"):
        return 0.2 * noise
    scaled: torch.Tensor = noise / shape[-1] ** 0.5
    return scaled


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")

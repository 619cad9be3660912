"""Every published layout of this architecture becomes an artifact by the same call, which then writes text.

The checkpoints are synthesised (tools/synthesize.py), narrow and shallow, with the real vocabulary's ids.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dream_edge
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.format.manifest import MANIFEST
from dream_edge_runtime.format.recipe import Recipe
from tools.synthetic.checkpoint import synthesize
from tools.synthetic.family import GEOMETRIES

LAYERS = 1
SIZES = {
    "num_hidden_layers": LAYERS,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
# id of bos, of <|expand|>, positions: as the checkpoint's own files say
EXPECTED: dict[str, tuple[int, int | None, int]] = {
    "dream-v0-base-7b": (151643, None, 131072),
    "dream-v0-instruct-7b": (151643, None, 131072),
    "dream-coder-v0-base-7b": (151665, None, 32768),
    "dream-coder-v0-instruct-7b": (151665, None, 32768),
    "dreamon-v0-7b": (151665, 151667, 32768),
    "diffucoder-7b-base": (151643, None, 131072),
    "diffucoder-7b-instruct": (151643, None, 131072),
    "d3llm-dream-7b": (151643, None, 131072),
    "dparallel-dream-7b": (151643, None, 131072),
    "qwen2-0.5b": (151643, None, 32768),
    "qwen2-1.5b": (151643, None, 32768),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("relatives"))


class World:
    """Checkpoints and artifacts, made when first asked for."""

    def __init__(self, directory: Path) -> None:
        self.checkpoint = cache(lambda name: self._checkpoint(directory / name, name))
        self.artifact = cache(lambda name, scheme: self._artifact(directory / f"{name}-{scheme}", name, scheme))

    def _checkpoint(self, directory: Path, name: str) -> Path:
        synthesize(GEOMETRIES[name].sized(**SIZES), directory, words=400)
        return directory

    def _artifact(self, directory: Path, name: str, scheme: str) -> Path:
        checkpoint = Checkpoint.open(self.checkpoint(name))
        return export(checkpoint, directory, Recipe.for_scheme(scheme, layers=LAYERS)).path


def test_no_geometry_is_left_out() -> None:
    assert set(EXPECTED) == set(GEOMETRIES)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("name", EXPECTED)
def test_relative_exports_loads_and_writes(world: World, name: str, scheme: str) -> None:
    model = dream_edge.load(world.artifact(name, scheme))
    bos, expand, positions = EXPECTED[name]
    config = model.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (bos, 151643, 151643)
    assert (config.mask_token_id, config.expand_token_id) == (151666, expand)
    assert (config.shift, config.context, config.max_position_embeddings) == (1, positions, positions)
    answer = model.generate("a b", max_new_tokens=4, steps=4)
    assert answer.new_tokens <= 4
    assert len(answer.token_ids) == 4
    filled = model.infill("one", "two", length=3, max_hole_tokens=0, steps=3, bos=True)
    assert len(filled.holes) == 1
    assert config.mask_token_id not in answer.token_ids


def test_manifest_says_what_the_code_does_not(world: World) -> None:
    stated = json.loads((world.artifact("dreamon-v0-7b", "int8") / MANIFEST).read_bytes())
    assert {name: stated["model"][name] for name in ("shift", "context", "expand_token_id", "bos_token_id")} == {
        "shift": 1,
        "context": 32768,
        "expand_token_id": 151667,
        "bos_token_id": 151665,
    }
    assert stated["license"] == "apache-2.0"


def test_holes_of_dreamon_may_change_their_size(world: World) -> None:
    model = dream_edge.load(world.artifact("dreamon-v0-7b", "int8"))

    def expand(_step: int, _ids: Any, positions: Any, logits: Any) -> Any:
        logits[:, 151667] += 1000.0 if len(positions) < 6 else -1000.0
        return logits

    grown = model.infill("one", "two", 3, logits_hook=expand, max_hole_tokens=20)
    assert 6 <= grown.new_tokens <= 20
    assert 151667 not in grown.token_ids
    text = model.tokenizer.encode("one"), model.tokenizer.encode("two")
    assert (list(grown.token_ids[: len(text[0])]), list(grown.token_ids[-len(text[1]) :])) == text


def test_one_id_is_another_token_in_another_relative(world: World) -> None:
    """151667 is DreamOn's <|expand|> and DiffuCoder's padding."""
    names = {
        name: dream_edge.load(world.artifact(name, "int8")).tokenizer.token_text(151667)
        for name in ("dreamon-v0-7b", "diffucoder-7b-instruct", "dream-v0-instruct-7b")
    }
    assert names == {"dreamon-v0-7b": "<|expand|>", "diffucoder-7b-instruct": "<|dlm_pad|>", "dream-v0-instruct-7b": ""}


def test_defaults_of_the_checkpoint_are_those_of_the_model(world: World) -> None:
    artifact = world.artifact("dream-coder-v0-instruct-7b", "int8")
    assert json.loads((artifact / MANIFEST).read_bytes())["generation"]["eos_penalty"] == 0.0
    model = dream_edge.load(artifact)
    assert (model.defaults.algorithm, model.defaults.steps, model.defaults.eps) == ("origin", 512, 1e-3)
    assert model.defaults.eos_penalty == 0.0


def test_tokenizer_json_beside_the_slow_files_changes_nothing(world: World, tmp_path: Path) -> None:
    plain = world.artifact("dream-v0-instruct-7b", "int8")
    both = world.artifact("d3llm-dream-7b", "int8")
    assert (both / "tokenizer.json").read_bytes() == (plain / "tokenizer.json").read_bytes()
    fast = tmp_path / "fast"
    shutil.copytree(world.checkpoint("d3llm-dream-7b"), fast)
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        (fast / name).unlink()
    alone = export(Checkpoint.open(fast), tmp_path / "out", Recipe.for_scheme("int8", layers=LAYERS)).path
    assert (alone / "tokenizer.json").read_bytes() == (plain / "tokenizer.json").read_bytes()


def test_tied_head_is_the_embedding_stored_or_not(world: World) -> None:
    for name in ("qwen2-0.5b", "qwen2-1.5b"):
        checkpoint = Checkpoint.open(world.checkpoint(name))
        assert checkpoint.config.tie_word_embeddings
        assert torch.equal(checkpoint.tensor("lm_head.weight"), checkpoint.tensor("model.embed_tokens.weight"))


@pytest.mark.parametrize("name", ["dream-coder-v0-instruct-7b", "qwen2-0.5b"])
def test_fp32_graph_gives_the_references_logits(world: World, name: str) -> None:
    model = dream_edge.load(world.artifact(name, "fp32"))
    reference = load_reference(Checkpoint.open(world.checkpoint(name)))
    ids = np.array([[151665, 10, 20, *[151666] * 5]], dtype=np.int64)
    positions = np.arange(8, dtype=np.int64)[None]
    rows = model.network.forward(ids, positions, np.ones((1, 1, 8), bool), np.arange(8, dtype=np.int64), 0.0, None)
    expected = reference(torch.from_numpy(ids))[0].numpy()
    assert np.abs(rows.fetch_logits() - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("change", "positions"),
    [
        ({"some_new_field": {"deep": [1]}, "_name_or_path": "x"}, 131072),
        ({"max_position_embeddings": 4096}, 4096),
        ({"pad_token_id": None, "mask_token_id": None}, 131072),
        ({"rope_scaling": None, "head_dim": None, "attention_bias": True}, 131072),
    ],
)
def test_variants_of_config_json_export(world: World, tmp_path: Path, change: dict[str, Any], positions: int) -> None:
    """Fields that nobody needs, and ids that only the tokenizer's files name."""
    copy = tmp_path / "checkpoint"
    shutil.copytree(world.checkpoint("dream-v0-instruct-7b"), copy)
    raw = json.loads((copy / "config.json").read_text("utf-8")) | change
    (copy / "config.json").write_text(json.dumps(raw), "utf-8")
    config = export(Checkpoint.open(copy), tmp_path / "out", Recipe.for_scheme("int8", layers=LAYERS)).manifest.config
    assert (config.mask_token_id, config.pad_token_id, config.context) == (151666, 151643, positions)

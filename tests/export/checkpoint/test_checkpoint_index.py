"""The index of a sharded checkpoint: it names every tensor's file, and must agree with the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_runtime.errors import (
    UnreadableFile,
)
from support.checkpoints import random_weights, write_checkpoint

Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
INDEX = "model.safetensors.index.json"


def change_index(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((directory / INDEX).read_text("utf-8"))
    change(index["weight_map"])
    (directory / INDEX).write_text(json.dumps(index), "utf-8")


@pytest.mark.parametrize(
    "file",
    [
        "../model.safetensors",
        "/model.safetensors",
        "a/b.safetensors",
        "a\\b.safetensors",
        "C:x.safetensors",
        "x\n.safetensors",
        "..",
        "",
        3,
        None,
        ["a"],
        "model.bin",
    ],
)
def test_index_may_only_name_files_beside_it(tmp_path: Path, file: object) -> None:
    directory = tmp_path / "checkpoint"
    config = write_checkpoint(directory, shards=2)
    save_file(random_weights(config), tmp_path / "model.safetensors")
    change_index(directory, lambda weight_map: weight_map.update({Q_PROJ: file}))
    with pytest.raises(UnreadableFile, match=r"index\.json.*not the name of a safetensors file"):
        Checkpoint.open(directory)


def test_index_must_agree_with_the_shards(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=2)
    change_index(tmp_path, lambda weight_map: weight_map.update({Q_PROJ: "model-00001-of-00002.safetensors"}))
    with pytest.raises(UnreadableFile, match=Q_PROJ):
        Checkpoint.open(tmp_path)
    change_index(tmp_path, lambda weight_map: weight_map.update({Q_PROJ: "model-00002-of-00002.safetensors"}))
    assert Checkpoint.open(tmp_path)
    change_index(tmp_path, lambda weight_map: weight_map.update({"ghost": "model-00002-of-00002.safetensors"}))
    with pytest.raises(UnreadableFile, match="ghost"):
        Checkpoint.open(tmp_path)
    change_index(tmp_path, lambda weight_map: (weight_map.pop("ghost"), weight_map.pop(Q_PROJ)))
    with pytest.raises(UnreadableFile, match=Q_PROJ):
        Checkpoint.open(tmp_path)


def test_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path, shards=2)
    shard = tmp_path / "model-00001-of-00002.safetensors"
    weights = {name: tensor for name, tensor in random_weights(config).items() if "layers.1" not in name}
    save_file({name: weights[name] for name in list(weights)}, shard)
    with pytest.raises(UnreadableFile, match="contradicts the shards"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {}}',
        '{"weight_map": NaN}',
        '{"weight_map": {"a": "b.safetensors", "a": "b.safetensors"}}',
        b"\xed\xa0\xbd",
        "[" * 100000,
    ],
)
def test_damaged_index_is_named(tmp_path: Path, text: str | bytes) -> None:
    write_checkpoint(tmp_path, shards=2)
    (tmp_path / INDEX).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UnreadableFile, match=r"index\.json"):
        Checkpoint.open(tmp_path)

"""Checkpoints that bitsandbytes has quantized to NF4: written by bitsandbytes itself, read and exported by us."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, dequantize_blockwise, quantize_4bit
from torch import Tensor

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.errors import TensorProblems
from dream_edge_export.export import export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import UnreadableFile
from dream_edge_runtime.format.layout import weight_places
from dream_edge_runtime.format.recipe import Recipe
from support.checkpoints import random_weights, write_checkpoint, write_weights

UP = "model.layers.0.mlp.up_proj"
GEOMETRY: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 512}


def quantized(weights: dict[str, Tensor], *, double: bool, block_size: int = 64) -> dict[str, Tensor]:
    """As `save_pretrained` of a model loaded in 4 bits: the matrices of the layers packed, with their parts beside."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if not name.endswith("_proj.weight"):
            tensors[name] = tensor
            continue
        codes, state = quantize_4bit(tensor, blocksize=block_size, quant_type="nf4", compress_statistics=double)
        tensors[name] = codes
        tensors |= {f"{name}.{part}": value for part, value in state.as_dict(packed=True).items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def write_packed(
    directory: Path,
    *,
    double: bool = True,
    block_size: int = 64,
    shards: int = 1,
    change: Callable[[dict[str, Tensor]], object] = lambda _: None,
) -> dict[str, Tensor]:
    """A packed checkpoint in `directory`; returns the weights it was made from."""
    config = write_checkpoint(directory, **GEOMETRY)
    weights = random_weights(config)
    tensors = quantized(weights, double=double, block_size=block_size)
    change(tensors)
    for file in directory.glob("model*"):
        file.unlink()
    write_weights(directory, tensors, shards=shards)
    return weights


def restore(codes: torch.Tensor, state: QuantState) -> torch.Tensor:
    """By bitsandbytes in groups of at most 128: of 2048 and more its AVX-512 kernel rounds, which it avoids only where
    PyTorch has AVX-512 as well."""
    absmax = state.absmax
    if state.nested:
        absmax = dequantize_blockwise(absmax, state.state2) + state.offset
    parts = max(1, state.blocksize // 128)
    absmax = absmax.float().repeat_interleave(parts)
    settings = (state.shape, state.code, state.blocksize // parts, state.quant_type, state.dtype)
    smaller = QuantState(absmax, *settings)  # type: ignore[no-untyped-call]
    return dequantize_4bit(codes, smaller)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("block_size", [32, 64, 128, 4096])
@pytest.mark.parametrize("double", [False, True])
def test_matrices_are_read_as_bitsandbytes_restores_them(
    tmp_path: Path, double: bool, block_size: int, shards: int
) -> None:
    weights = write_packed(tmp_path, double=double, block_size=block_size, shards=shards)
    checkpoint = Checkpoint.open(tmp_path)
    for name, tensor in weights.items():
        found = checkpoint.tensor(name)
        if name.endswith("_proj.weight"):
            codes, state = quantize_4bit(tensor, blocksize=block_size, quant_type="nf4", compress_statistics=double)
            expected = restore(codes, state)
            assert checkpoint.shape(name) == tensor.shape
            parts = [checkpoint.rows(name, *bounds) for bounds in ((0, 5), (5, 6), (6, len(tensor)))]
            assert torch.equal(torch.cat(parts), expected), name
        else:
            expected = tensor
        assert torch.equal(found, expected), name


@pytest.mark.parametrize("double", [False, True])
def test_export_to_nf4_keeps_the_codes(tmp_path: Path, double: bool) -> None:
    """And, where it was not quantized itself, absmax; undone double quantization gives absmax to the last bit."""
    write_packed(tmp_path / "checkpoint", double=double)
    checkpoint = Checkpoint.open(tmp_path / "checkpoint")
    artifact = export(checkpoint, tmp_path / "out", Recipe.for_scheme("nf4"))
    (matrix,) = checkpoint._stored[f"{UP}.weight"]
    assert matrix.packed is not None
    raw = matrix.file.read(matrix.name).numpy().reshape(-1)
    assert (stored(artifact, f"{UP}.weight", np.uint8) == raw).all()
    absmax = matrix.packed.absmax.numpy()
    assert (stored(artifact, f"{UP}.absmax", np.float32) == absmax).all()


def stored(artifact: Artifact, name: str, dtype: type[np.generic]) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    place = weight_places(artifact.manifest.config, artifact.manifest.recipe, "cpu")[name]
    data = (artifact.path / place.shard).read_bytes()
    return np.frombuffer(data[place.offset : place.offset + place.size], dtype)


def test_other_schemes_export_from_it_too(tmp_path: Path) -> None:
    write_packed(tmp_path / "checkpoint")
    export(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "out", Recipe.for_scheme("int8")).verify()


STATE = f"{UP}.weight.quant_state.bitsandbytes__nf4"


def text(value: str) -> Tensor:
    return torch.tensor(list(value.encode()), dtype=torch.uint8)


DAMAGES: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "no_absmax": lambda tensors: tensors.pop(f"{UP}.weight.absmax"),
    "no_map": lambda tensors: tensors.pop(f"{UP}.weight.quant_map"),
    "no_nested_map": lambda tensors: tensors.pop(f"{UP}.weight.nested_quant_map"),
    "short_absmax": lambda tensors: tensors.update({f"{UP}.weight.absmax": torch.zeros(3, dtype=torch.uint8)}),
    "short_codes": lambda tensors: tensors.update({f"{UP}.weight": torch.zeros(3, 1, dtype=torch.uint8)}),
    "map_of_another_type": lambda tensors: tensors.update({f"{UP}.weight.quant_map": torch.zeros(16).half()}),
    "state_is_no_json": lambda tensors: tensors.update({STATE: text("{")}),
    "state_of_fp4": lambda tensors: tensors.update(
        {STATE: text('{"quant_type": "fp4", "blocksize": 64, "shape": [512, 128]}')}
    ),
    "state_without_shape": lambda tensors: tensors.update({STATE: text('{"quant_type": "nf4", "blocksize": 64}')}),
    "block_size_of_zero": lambda tensors: tensors.update(
        {STATE: text('{"quant_type": "nf4", "blocksize": 0, "shape": [512, 128]}')}
    ),
    "huge_shape": lambda tensors: tensors.update(
        {STATE: text('{"quant_type": "nf4", "blocksize": 64, "shape": [512000000000, 128]}')}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_parts_are_an_error_that_names_the_matrix(tmp_path: Path, damage: str) -> None:
    write_packed(tmp_path, change=DAMAGES[damage])
    with pytest.raises(UnreadableFile, match=UP):
        Checkpoint.open(tmp_path)


def test_a_huge_nested_block_size_takes_no_memory(tmp_path: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        state = json.loads(bytes(tensors[STATE].tolist()))
        tensors[STATE] = text(json.dumps(state | {"nested_blocksize": (1 << 31) - 1}))

    write_packed(tmp_path, change=change)
    assert Checkpoint.open(tmp_path).shape(f"{UP}.weight") == (512, 128)


def test_a_packed_matrix_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    codes, state = quantize_4bit(torch.randn(64, 64), blocksize=64, quant_type="nf4")
    parts = {f"{UP}.weight.{part}": value for part, value in state.as_dict(packed=True).items()}

    def change(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(f"{UP}.weight")]:
            del tensors[name]
        tensors.update({f"{UP}.weight": codes, **parts})

    write_packed(tmp_path, change=change)
    with pytest.raises(TensorProblems, match="up_proj"):
        Checkpoint.open(tmp_path)

"""An artifact's weights as the numbers they stand for, in fp32, by the names of the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.layout import weight_places
from dream_edge_runtime.format.recipe import NF4_VALUES, WeightFormat
from dream_edge_runtime.format.tensors import matrix_shapes, vector_sizes

Stored = Mapping[str, NDArray[Any]]


def read_artifact(artifact: Artifact) -> dict[str, Tensor]:
    """Every matrix, bias and norm of the graph for CPUs."""
    config, formats = artifact.manifest.config, artifact.manifest.recipe.targets["cpu"]
    places = weight_places(config, artifact.manifest.recipe, "cpu")
    arrays = {name: artifact.map_tensor(place) for name, place in places.items()}
    tensors = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in vector_sizes(config)}
    for name, shape in matrix_shapes(config).items():
        stored = {
            part: arrays[f"{name}.{part}"]
            for part in ("weight", "scales", "zero_points", "absmax")
            if f"{name}.{part}" in arrays
        }
        tensors[f"{name}.weight"] = torch.from_numpy(dequantized(stored, formats.of(name), shape))
    return tensors


def dequantized(stored: Stored, weights: WeightFormat, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A matrix [out, in] from its stored parts, by their last names."""
    if weights.kind == "float":
        return stored["weight"].astype(np.float32).reshape(shape)
    if weights.kind == "row":
        by_output = stored["weight"] if weights.table else stored["weight"].T
        return np.ascontiguousarray(by_output.astype(np.float32) * stored["scales"][:, None])
    if weights.kind == "nf4":
        packed = stored["weight"].reshape(-1)
        codes = np.stack([packed >> 4, packed & 15], axis=-1).reshape(-1, weights.block_size)
        return (np.array(NF4_VALUES, np.float32)[codes] * stored["absmax"].reshape(-1, 1)).reshape(shape)
    rows, groups = shape[0], weights.blocks(shape[1])
    scales = stored["scales"].astype(np.float32).reshape(rows, groups)
    zeros: Any = float(1 << (weights.bits - 1))
    if "zero_points" in stored:
        zeros = _codes(stored["zero_points"].reshape(rows, -1), weights.bits)[:, :groups, None]
    codes = _codes(stored["weight"].reshape(rows, -1), weights.bits)
    padded = np.zeros((rows, groups * weights.block_size), np.float32)
    padded[:, : min(codes.shape[1], padded.shape[1])] = codes[:, : padded.shape[1]]
    numbers = (padded.reshape(rows, groups, -1) - zeros) * scales[:, :, None]
    return np.ascontiguousarray(numbers.reshape(rows, -1)[:, : shape[1]].astype(np.float32))


def _codes(packed: NDArray[Any], bits: int) -> NDArray[np.float32]:
    """Unsigned integers [rows, n] from bytes; the first of two lies in the low half."""
    if bits == 8:
        return packed.astype(np.float32)
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1).astype(np.float32)

"""What an artifact stores of each weight, and where it lies in the shards.

Both follow from configuration and recipe alone. So an export knows every place before it encodes anything, and a
runtime knows what a file must hold before it opens it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from .model_config import ModelConfig
from .recipe import Recipe, Target, WeightFormat
from .tensors import EMBEDDING, matrix_shapes, vector_sizes, weight_of

LARGEST_SHARD = 2_000_000_000
ALIGNMENT = 64  # a cache line: what the kernels' loads want of a mapped file


class TensorSpec(NamedTuple):
    """Name, NumPy dtype name and shape; a named dimension is free."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


def matrix_specs(name: str, shape: tuple[int, int], weights: WeightFormat) -> list[TensorSpec]:
    """The tensors that store the matrix `name` of `shape` (outputs, inputs)."""
    (outputs, inputs), bits = shape, weights.bits
    parts: list[tuple[str, str, tuple[int, ...]]]
    if weights.kind == "float":
        parts = [("weight", f"float{bits}", shape)]
    elif weights.kind == "row":
        parts = [("weight", "int8", (inputs, outputs)), ("scales", "float32", (outputs,))]
    elif weights.kind == "nf4":
        count = outputs * inputs
        parts = [("weight", "uint8", (count // 2,)), ("absmax", "float32", (weights.blocks(count),))]
    else:
        blocks = weights.blocks(inputs)
        packed = (inputs * bits // 8,) if name == EMBEDDING else (blocks, weights.block_size * bits // 8)
        parts = [("weight", "uint8", (outputs, *packed)), ("scales", "float16", (outputs, blocks))]
        if not weights.symmetric:
            parts.append(("zero_points", "uint8", (outputs, -(-blocks * bits // 8))))
    return [TensorSpec(f"{name}.{part}", dtype, lengths) for part, dtype, lengths in parts]


@dataclass(frozen=True)
class Weight:
    """A matrix in one format, or a vector (no format), and the tensors that store it, in their order."""

    name: str
    format: WeightFormat | None
    specs: tuple[TensorSpec, ...]

    @property
    def source(self) -> str:
        """Its tensor in the checkpoint."""
        return weight_of(self.name) if self.format else self.name


def stored_weights(config: ModelConfig, recipe: Recipe) -> list[Weight]:
    """Everything an artifact stores: the matrices in the order data meets them, then biases and norms."""
    shapes = matrix_shapes(config)
    matrices = [
        Weight(name, format_, tuple(matrix_specs(name, shapes[name], format_)))
        for name, format_ in recipe.stored_matrices(config)
    ]
    vectors = [
        Weight(name, None, (TensorSpec(name, "float32", (size,)),)) for name, size in vector_sizes(config).items()
    ]
    return matrices + vectors


class Place(NamedTuple):
    """The bytes of one tensor: `size` of them from `offset` in `shard`."""

    spec: TensorSpec
    shard: str
    offset: int
    size: int


@dataclass(frozen=True)
class Layout:
    """Every tensor's place, in the order in which they are written; each lies in one shard."""

    places: tuple[Place, ...]

    @classmethod
    def of(cls, specs: Iterable[TensorSpec], largest_shard: int) -> Layout:
        """A tensor larger than `largest_shard` gets a shard of its own."""
        places: list[Place] = []
        shard = end = 0
        for spec in specs:
            size = tensor_bytes(spec)
            offset = end + -end % ALIGNMENT
            if not shard or offset + size > largest_shard:
                shard, offset = shard + 1, 0
            places.append(Place(spec, f"weights-{shard:05d}.bin", offset, size))
            end = offset + size
        return cls(tuple(places))

    def sizes(self, count: int | None = None) -> dict[str, int]:
        """Bytes of each shard once the first `count` tensors are written; of all, without `count`."""
        return {place.shard: place.offset + place.size for place in self.places[:count]}


def tensor_bytes(spec: TensorSpec) -> int:
    """Bytes of a tensor without named dimensions."""
    return prod(int(length) for length in spec.shape) * np.dtype(spec.dtype).itemsize


def plan_layout(config: ModelConfig, recipe: Recipe) -> Layout:
    """Where an artifact of this recipe keeps everything that it stores."""
    return Layout.of((spec for weight in stored_weights(config, recipe) for spec in weight.specs), LARGEST_SHARD)


def weight_places(config: ModelConfig, recipe: Recipe, target: Target) -> dict[str, Place]:
    """The place of every weight that the graph for `target` reads, by name, in the order of the layout."""
    formats = recipe.targets[target]
    owners = [weight for weight in stored_weights(config, recipe) for _ in weight.specs]
    return {
        place.spec.name: place
        for weight, place in zip(owners, plan_layout(config, recipe).places, strict=True)
        if weight.format in (None, formats.of(weight.name))
    }

"""What an artifact stores of each weight, and where it lies in the shards.

Both follow from configuration and recipe alone. So an export knows every place before it encodes anything, and a
runtime knows what a file must hold before it opens it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import prod
from typing import NamedTuple

import numpy as np

from .model_config import ModelConfig
from .recipe import Recipe, Target, WeightFormat
from .tensors import EMBEDDING, LM_HEAD, matrix_groups, matrix_shapes, vector_sizes, weight_of

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
        parts = [("weight", "int8", shape if weights.table else (inputs, outputs)), ("scales", "float32", (outputs,))]
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


Bundle = tuple[Weight, ...]
"""Weights that lie together: the first tensor of each, then the second of each, and so on, without gaps between them.

So what they store is one matrix of all their outputs, and the members can still be read by themselves.
"""


def stored_weights(config: ModelConfig, recipe: Recipe) -> list[Bundle]:
    """Everything an artifact stores: the matrices in the order data meets them, then biases and norms."""
    shapes, sizes = matrix_shapes(config), vector_sizes(config)
    matrices = [
        tuple(Weight(name, format_, tuple(matrix_specs(name, shapes[name], format_))) for name in names)
        for names, format_ in recipe.stored_matrices(config)
    ]
    # of vectors that follow each other, a layer's biases belong to one block
    together = groupby(sizes, lambda name: name.rsplit(".", 2)[0] if recipe.joined else name)
    vectors = [
        tuple(Weight(name, None, (TensorSpec(name, "float32", (sizes[name],)),)) for name in names)
        for _, names in together
    ]
    return matrices + vectors


def interleave(bundle: Bundle) -> list[Sequence[TensorSpec]]:
    """The tensors of a bundle in the order in which they lie; those of one sequence without gaps."""
    return list(zip(*(weight.specs for weight in bundle), strict=True))


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
    def of(cls, specs: Iterable[Sequence[TensorSpec]], largest_shard: int) -> Layout:
        """Tensors that come together lie without gaps in one shard; what is larger than a shard has one of its own."""
        places: list[Place] = []
        shard = end = 0
        for together in specs:
            start = end + -end % ALIGNMENT
            if not shard or start + sum(map(tensor_bytes, together)) > largest_shard:
                shard, start = shard + 1, 0
            end = start
            for spec in together:
                places.append(Place(spec, f"weights-{shard:05d}.bin", end, tensor_bytes(spec)))
                end += tensor_bytes(spec)
        return cls(tuple(places))

    def sizes(self, count: int | None = None) -> dict[str, int]:
        """Bytes of each shard once the first `count` tensors are written; of all, without `count`."""
        return {place.shard: place.offset + place.size for place in self.places[:count]}


def tensor_bytes(spec: TensorSpec) -> int:
    """Bytes of a tensor without named dimensions."""
    return prod(int(length) for length in spec.shape) * np.dtype(spec.dtype).itemsize


def plan_layout(config: ModelConfig, recipe: Recipe) -> Layout:
    """Where an artifact of this recipe keeps everything that it stores."""
    bundles = stored_weights(config, recipe)
    return Layout.of((together for bundle in bundles for together in interleave(bundle)), LARGEST_SHARD)


def weight_places(config: ModelConfig, recipe: Recipe, target: Target) -> dict[str, Place]:
    """The place of every tensor that the graph for `target` reads, by name, in the order of the layout.

    A tied lm_head comes last: it is the embedding's bytes, in the shape in which they are multiplied.
    """
    formats = recipe.targets[target]
    owners = [
        weight for bundle in stored_weights(config, recipe) for together in interleave(bundle) for weight in bundle
    ]
    places = {
        place.spec.name: place
        for weight, place in zip(owners, plan_layout(config, recipe).places, strict=True)
        if weight.format in (None, formats.of(weight.name))
    }
    if config.tie_word_embeddings:
        for spec in matrix_specs(LM_HEAD, matrix_shapes(config)[LM_HEAD], formats.lm_head):
            places[spec.name] = places[spec.name.replace(LM_HEAD, EMBEDDING)]._replace(spec=spec)
    return places


def product_places(config: ModelConfig, recipe: Recipe, target: Target) -> dict[str, Place]:
    """The same, but that matrices which are multiplied as one are one: see `join_names`."""
    places = weight_places(config, recipe, target)
    for group in matrix_groups(config):
        for names in recipe.targets[target].products(group, recipe.joined):
            for part in ("weight", "scales", "zero_points", "absmax", "bias") if len(names) > 1 else ():
                if f"{names[0]}.{part}" in places:
                    members = [places.pop(f"{name}.{part}") for name in names]
                    places[f"{join_names(names)}.{part}"] = _join_places(f"{join_names(names)}.{part}", members)
    return places


def join_names(names: Sequence[str]) -> str:
    """The name of the matrix that `names` are together: model.layers.0.mlp.gate_proj+up_proj."""
    block = names[0].rpartition(".")[0]
    return f"{block}.{'+'.join(name.removeprefix(f'{block}.') for name in names)}" if len(names) > 1 else names[0]


def _join_places(name: str, places: Sequence[Place]) -> Place:
    """One tensor of all rows of those at `places`, which follow each other."""
    first = places[0]
    assert all((one.shard, one.offset + one.size) == (other.shard, other.offset) for one, other in pairwise(places))
    rows = sum(int(place.spec.shape[0]) for place in places)
    spec = TensorSpec(name, first.spec.dtype, (rows, *first.spec.shape[1:]))
    return Place(spec, first.shard, first.offset, sum(place.size for place in places))

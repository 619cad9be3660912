"""Whether the weights that a graph declares are the configured ones and lie, apart from each other, in listed files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from ..format.layout import TensorSpec
from .onnx_reader import BYTES, Initializer, OnnxGraph


class _Slice(NamedTuple):
    location: str
    start: int
    end: int
    name: str


def weight_problem(graph: OnnxGraph, expected: Mapping[str, TensorSpec], file_sizes: Mapping[str, int]) -> str | None:
    """What is wrong, None if nothing. `file_sizes`: bytes of the artifact's files by name."""
    weights = {item.name: item for item in graph.initializers if item.location is not None}
    if len(weights) != sum(item.location is not None for item in graph.initializers):
        return "two weights share a name"
    if weights.keys() != expected.keys():
        first = sorted(weights.keys() ^ expected.keys())[0]
        return f"the weights do not match the recipe, first {first!r}"
    slices = []
    for name, spec in expected.items():
        item = weights[name]
        problem = _data_problem(item, spec, file_sizes)
        if problem:
            return f"weight {name!r} {problem}"
        slices.append(_Slice(str(item.location), item.offset, item.offset + item.length, name))
    slices.sort()
    for before, after in pairwise(slices):
        if before.location == after.location and after.start < before.end:
            return f"weights {before.name!r} and {after.name!r} overlap"
    return None


def _data_problem(item: Initializer, spec: TensorSpec, file_sizes: Mapping[str, int]) -> str | None:
    if (item.dtype, item.shape) != (spec.dtype, spec.shape):
        return f"is {item.dtype} {item.shape}, expected {spec.dtype} {spec.shape}"
    if item.location is None or item.location not in file_sizes:
        return f"lies in {item.location!r}, which is not a file of the artifact"
    if item.length != math.prod(item.shape) * BYTES[item.dtype]:
        return f"has {item.length} bytes of data, which is not its size"
    if item.offset % BYTES[item.dtype]:
        return f"lies at {item.offset}, which is not a multiple of its elements' size"
    if not 0 <= item.offset <= item.offset + item.length <= file_sizes[item.location]:
        return f"lies outside {item.location}"
    return None

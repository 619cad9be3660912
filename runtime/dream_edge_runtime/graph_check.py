"""Checks a graph from a stranger against what its configuration and recipe imply, before ONNX Runtime sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from .config import ModelConfig
from .contract import OPSET, TensorSpec, input_specs, output_specs, weight_specs
from .errors import CorruptArtifact
from .onnx_reader import Initializer, MalformedGraph, OnnxGraph, Port, read_onnx
from .recipe import Formats, Target

LARGEST_GRAPH = 64 << 20  # a graph of 200 layers has under 3 MB; its weights lie outside

_MICROSOFT = "com.microsoft"
_STANDARD_OPERATORS = """
    Add Attention Cast Concat Constant Cos Div Exp Expand Gather GatherElements Gemm Greater Log Max Mul Neg
    QuantizeLinear RMSNormalization ReduceMax ReduceMin ReduceSum Reshape RotaryEmbedding Shape Sigmoid Sin Squeeze Sub
    TopK Transpose Unsqueeze Where
""".split()
_OPERATORS = frozenset(
    {
        *(("", name) for name in _STANDARD_OPERATORS),
        (_MICROSOFT, "GatherBlockQuantized"),
        (_MICROSOFT, "MatMulBnb4"),
        (_MICROSOFT, "MatMulIntegerToFloat"),
        (_MICROSOFT, "MatMulNBits"),
    }
)
_BYTES = {"float32": 4, "uint8": 1, "int8": 1, "float16": 2}
_LARGEST_CONSTANT = 1024  # elements; scalars, shapes and the rotary frequencies


class _Slice(NamedTuple):
    location: str
    start: int
    end: int
    name: str


def check_graph(
    path: Path, config: ModelConfig, formats: Formats, target: Target, file_sizes: Mapping[str, int]
) -> OnnxGraph:
    """The declarations of the graph in `path`, if they are exactly those that the other arguments imply.

    `file_sizes`: bytes of the artifact's files by name; external data must lie inside them.

    Raises:
        CorruptArtifact: naming the first thing that does not fit.
    """
    try:
        if path.stat().st_size > LARGEST_GRAPH:
            raise CorruptArtifact(path, f"a graph has at most {LARGEST_GRAPH >> 20} MB")
        graph = read_onnx(path.read_bytes())
    except MalformedGraph as error:
        raise CorruptArtifact(path, f"not a readable ONNX graph ({error})") from None
    except OSError as error:
        raise CorruptArtifact(path, f"cannot be read ({error.strerror})") from None
    problem = (
        _structure_problem(graph)
        or _port_problem("input", graph.inputs, input_specs(config, target))
        or _port_problem("output", graph.outputs, output_specs(config, target))
        or _weight_problem(graph, weight_specs(config, formats), file_sizes)
    )
    if problem:
        raise CorruptArtifact(path, problem)
    return graph


def _structure_problem(graph: OnnxGraph) -> str | None:
    if graph.opsets != {"": OPSET, _MICROSOFT: 1}:
        return f"the graph uses operator sets {graph.opsets}"
    foreign = sorted(graph.operators - _OPERATORS)
    if foreign:
        return f"the graph uses foreign operators: {', '.join('::'.join(key).lstrip(':') for key in foreign)}"
    if graph.has_functions or graph.has_subgraphs or graph.has_other_tensors:
        return "the graph holds functions, subgraphs or tensors outside its initializers"
    return None


def _port_problem(kind: str, found: tuple[Port, ...], expected: list[TensorSpec]) -> str | None:
    for port, spec in zip(found, expected, strict=False):
        if (port.name, port.dtype, port.shape) != spec:
            expected_port = f"{spec.name!r} {spec.dtype} {spec.shape}"
            return f"{kind} {port.name!r} is {port.dtype} {port.shape}, expected {expected_port}"
    if len(found) != len(expected):
        return f"the graph has {len(found)} {kind}s, expected {len(expected)}"
    return None


def _weight_problem(graph: OnnxGraph, expected: Mapping[str, TensorSpec], file_sizes: Mapping[str, int]) -> str | None:
    weights = {item.name: item for item in graph.initializers if item.location is not None}
    constants = [item for item in graph.initializers if item.location is None]
    if len(weights) + len(constants) != len(graph.initializers):
        return "two weights share a name"
    if weights.keys() != expected.keys():
        first = sorted(weights.keys() ^ expected.keys())[0]
        return f"the weights do not match the recipe, first {first!r}"
    for item in constants:
        if item.name in expected or math.prod(item.shape) > _LARGEST_CONSTANT:
            return f"constant {item.name!r} of shape {item.shape} does not belong here"
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
    if item.length != math.prod(item.shape) * _BYTES[item.dtype]:
        return f"has {item.length} bytes of data, which is not its size"
    if not 0 <= item.offset <= item.offset + item.length <= file_sizes[item.location]:
        return f"lies outside {item.location}"
    return None

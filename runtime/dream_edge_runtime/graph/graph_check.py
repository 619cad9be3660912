"""Checks a graph from a stranger against the one that its configuration and formats imply, before ONNX Runtime sees it.

Nothing is left to choose: inputs and outputs are those of the contract, the weights those of the formats, and every
node is one of the plan's (`graph_plan`). What such a graph can do wrong is therefore what wrong weights can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import CorruptArtifact
from ..files.regular import read_regular
from ..format.layout import TensorSpec
from ..format.model_config import ModelConfig
from ..format.recipe import Formats, Target
from .graph_plan import MICROSOFT, GraphPlan, second_output
from .onnx_reader import Constant, MalformedGraph, Node, OnnxGraph, Port, read_onnx
from .signature import OPSET, input_specs, output_specs, weight_specs
from .weight_check import weight_problem

IR_VERSIONS = range(10, 14)

_BYTES_A_LAYER = 1 << 16  # about 35 kB are needed
_LARGEST_GRAPH = 64 << 20


def largest_graph(config: ModelConfig) -> int:
    """Bytes of the largest graph file that is read for a network of this geometry; its weights lie outside."""
    return min(_LARGEST_GRAPH, _BYTES_A_LAYER * (2 + config.num_hidden_layers))


def check_graph(
    path: Path, config: ModelConfig, formats: Formats, target: Target, file_sizes: Mapping[str, int]
) -> OnnxGraph:
    """The graph in `path`, if it is exactly the one that the other arguments imply.

    `file_sizes`: bytes of the artifact's files by name; external data must lie inside them.

    Raises:
        CorruptArtifact: naming the first thing that does not fit.
    """
    return check_graph_bytes(read_regular(path, largest_graph(config)), path, config, formats, target, file_sizes)


def check_graph_bytes(
    data: bytes,
    source: Path | str,
    config: ModelConfig,
    formats: Formats,
    target: Target,
    file_sizes: Mapping[str, int],
) -> OnnxGraph:
    """As `check_graph`, of the bytes of a graph; `source` is named in errors."""
    try:
        graph = read_onnx(data)
    except MalformedGraph as error:
        raise CorruptArtifact(source, f"not an ONNX graph of dream-edge ({ascii(str(error))[1:-1]})") from None
    problem = (
        _version_problem(graph)
        or _port_problem("input", graph.inputs, input_specs(config, target))
        or _port_problem("output", graph.outputs, output_specs(config, target))
        or weight_problem(graph, weight_specs(config, formats), file_sizes)
        or _network_problem(graph, GraphPlan(config, formats, target))
    )
    if problem:
        raise CorruptArtifact(source, "".join(each if each.isprintable() else "?" for each in problem)[:400])
    return graph


def _version_problem(graph: OnnxGraph) -> str | None:
    if graph.opsets != {"": OPSET, MICROSOFT: 1}:
        return f"the graph uses operator sets {str(graph.opsets)[:200]}"
    if graph.ir_version not in IR_VERSIONS:
        return f"the graph has version {graph.ir_version} of ONNX's format"
    return None


def _port_problem(kind: str, found: Sequence[Port], expected: Sequence[TensorSpec]) -> str | None:
    for port, spec in zip(found, expected, strict=False):
        if (port.name, port.dtype, port.shape) != spec:
            expected_port = f"{spec.name!r} {spec.dtype} {spec.shape}"
            return f"{kind} {port.name!r} is {port.dtype} {port.shape}, expected {expected_port}"
    if len(found) != len(expected):
        return f"the graph has {len(found)} {kind}s, expected {len(expected)}"
    return None


def _network_problem(graph: OnnxGraph, plan: GraphPlan) -> str | None:
    known: dict[str, int] = {}  # values so far: name → number in the plan
    for port in graph.inputs:
        number = plan.leaf(port.name)
        assert number is not None  # inputs and weights were compared before
        known[port.name] = number
    for item in graph.initializers:
        constant = None if item.data is None else Constant(item.dtype, item.shape, item.data)
        number = plan.leaf(item.name) if constant is None else plan.constant(constant, item.name)
        if number is None:
            return f"constant {item.name!r} ({item.dtype} {item.shape}) is none of the network's"
        if item.name in known or not item.name:
            return f"the name {item.name!r} is given twice"
        known[item.name] = number
    if sum(node.operator != "Constant" for node in graph.nodes) > plan.nodes or len(graph.nodes) > 2 * plan.nodes:
        return f"the graph has {len(graph.nodes)} nodes, expected {plan.nodes}"
    for node in graph.nodes:
        problem = _node_problem(node, known, plan)
        if problem:
            return f"node {node.name!r} ({node.operator}) {problem}"
    for name, number in plan.outputs.items():
        if known.get(name) != number:
            return f"output {name!r} is not computed as the recipe says"
    return _declaration_problem(graph, known)


def _node_problem(node: Node, known: dict[str, int], plan: GraphPlan) -> str | None:
    inputs = list(node.inputs)
    while inputs and not inputs[-1]:  # optional inputs left out
        inputs.pop()
    for name in inputs:
        if name not in known:
            return f"reads {name!r}, which nothing before it makes"
    value = node.attributes.get("value")
    if node.operator == "Constant" and not node.domain and isinstance(value, Constant) and len(node.attributes) == 1:
        number = None if inputs else plan.constant(value)
    else:
        number = plan.node(node.domain, node.operator, tuple(known[name] for name in inputs), dict(node.attributes))
    if number is None:
        return "is none of the network's that the configuration implies"
    numbers = (number, second_output(number)) if node.operator == "TopK" else (number,)
    if len(node.outputs) != len(numbers):
        return f"has {len(node.outputs)} outputs"
    for name, output in zip(node.outputs, numbers, strict=True):
        if name in known or not name:
            return f"gives the name {name!r} twice"
        known[name] = output
    return None


def _declaration_problem(graph: OnnxGraph, known: Mapping[str, int]) -> str | None:
    """Types that the file declares for values inside the graph; ONNX Runtime infers them anew and compares."""
    names = {port.name for port in graph.declared}
    if len(names) != len(graph.declared) or not names <= known.keys():
        return "the graph declares types of values that it does not have"
    for port in graph.declared:
        if any(isinstance(length, int) and not 0 <= length < 1 << 31 for length in port.shape):
            return f"value {port.name!r} is declared with shape {port.shape}"
    return None

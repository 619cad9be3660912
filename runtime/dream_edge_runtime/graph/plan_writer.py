"""The planned graph as a file: for weights that this package stored anew, without the exporter and its libraries."""

from __future__ import annotations

from collections.abc import Iterable

from ..format.model_config import ModelConfig
from ..format.recipe import Formats, Target
from .graph_plan import MICROSOFT, GraphPlan, second_output
from .onnx_reader import Initializer, Node, OnnxGraph, Port
from .onnx_writer import write_onnx
from .signature import OPSET, PRODUCER, input_specs, output_specs

_IR_VERSION = 11  # the first with opset 23


def write_planned(config: ModelConfig, formats: Formats, target: Target, weights: Iterable[Initializer]) -> bytes:
    """The graph of `GraphPlan`, with `weights`, each of which says where it lies."""
    plan = GraphPlan(config, formats, target)
    inputs, outputs = input_specs(config, target), output_specs(config, target)
    graph = OnnxGraph(
        ir_version=_IR_VERSION,
        opsets={"": OPSET, MICROSOFT: 1},
        inputs=[Port(*spec) for spec in inputs],
        outputs=[Port(*spec) for spec in outputs],
        initializers=list(weights),
    )
    names = {number: name for name, number in plan.outputs.items()}
    for name in (*(port.name for port in graph.inputs), *(item.name for item in graph.initializers)):
        leaf = plan.leaf(name)
        assert leaf is not None  # the plan has the same specifications
        names[leaf] = name
    for number, (name, constant) in plan.constants.items():
        names[number] = name or f"constant_{number}"
        graph.initializers.append(Initializer(names[number], constant.dtype, constant.shape, data=constant.data))
    for step in plan.steps:
        numbers = [step.number, second_output(step.number)] if step.operator == "TopK" else [step.number]
        made = tuple(names.setdefault(number, f"value_{number}") for number in numbers)
        read = tuple(names[number] for number in step.inputs)
        name = f"{step.operator}_{step.number}"
        graph.nodes.append(Node(name, step.domain, step.operator, read, made, step.attributes))
    return write_onnx(graph, producer=PRODUCER, name="dream_denoising_pass")

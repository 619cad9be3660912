"""Ways in which the graph of an artifact can be bad, though it is listed with its true size and digest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .artifacts import GRAPH, change_graph, relist

Change = Callable[[onnx.ModelProto], object]


def node(model: onnx.ModelProto, operator: str, index: int = 0) -> onnx.NodeProto:
    found: onnx.NodeProto = [each for each in model.graph.node if each.op_type == operator][index]
    return found


def tensor(model: onnx.ModelProto, name: str = "lm_head.weight") -> TensorProto:
    found: TensorProto = next(each for each in model.graph.initializer if each.name == name)
    return found


def attribute(operator: str, name: str, value: Any) -> Change:
    def change(model: onnx.ModelProto) -> None:
        held = node(model, operator).attribute
        kept = [each for each in held if each.name != name]
        del held[:]
        held.extend([*kept, helper.make_attribute(name, value)])

    return change


def place(key: str, value: str, name: str = "lm_head.weight") -> Change:
    def change(model: onnx.ModelProto) -> None:
        next(each for each in tensor(model, name).external_data if each.key == key).value = value

    return change


def constant(old: list[int], new: list[int]) -> Change:
    """A shape, or a number of things, that the graph works with."""

    def change(model: onnx.ModelProto) -> None:
        for each in model.graph.initializer:
            if each.data_type == TensorProto.INT64 and numpy_helper.to_array(each).tolist() == old:
                each.CopyFrom(numpy_helper.from_array(np.array(new, np.int64), each.name))

    return change


def rewired(operator: str, index: int, to: str) -> Change:
    return lambda model: node(model, operator).input.__setitem__(index, to)


def more_nodes(model: onnx.ModelProto) -> None:
    """Each doubles what the last one made."""
    for index in range(40):
        last = f"b{index - 1}" if index else "input_ids"
        model.graph.node.append(helper.make_node("Concat", [last, last], [f"b{index}"], axis=0))


def expand_bomb(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 40], np.int64), "bomb"))
    model.graph.node.append(helper.make_node("Expand", ["input_ids", "bomb"], ["boom"]))


def subgraph(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", body))


def function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [], [helper.make_opsetid("", 23)]))


def external_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("value", tensor(model)))


def weight_inside(model: onnx.ModelProto) -> None:
    tensor(model, "lm_head.scales").CopyFrom(numpy_helper.from_array(np.ones(1024, np.float32), "lm_head.scales"))


def cycle(model: onnx.ModelProto) -> None:
    node(model, "Cos").input[0] = node(model, "Cos").output[0]


def backwards(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def declared_twice(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(model.graph.value_info[0])


GRAPHS: dict[str, Change] = {
    "foreign_operator": lambda model: setattr(model.graph.node[3], "op_type", "Loop"),
    "foreign_domain": lambda model: setattr(model.graph.node[3], "domain", "com.evil"),
    "other_operator_set": lambda model: setattr(model.opset_import[0], "version", 12),
    "more_operator_sets": lambda model: model.opset_import.append(helper.make_opsetid("com.evil", 1)),
    "other_format_version": lambda model: setattr(model, "ir_version", 3),
    "function": function,
    "subgraph": subgraph,
    "sparse_weight": lambda model: model.graph.sparse_initializer.add(),
    "training": lambda model: model.training_info.add(),
    "session_options": lambda model: helper.set_model_props(model, {"ort_config": "{}"}),
    "node_metadata": lambda model: model.graph.node[0].metadata_props.add(key="layer_ann", value="x"),
    "external_attribute": external_attribute,
    "text_attribute": attribute("Concat", "mode", "wrap"),
    "renamed_input": lambda model: setattr(model.graph.input[0], "name", "ids"),
    "input_of_another_type": lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 6),
    "missing_input": lambda model: model.graph.input.pop(),
    "renamed_output": lambda model: setattr(model.graph.output[0], "name", "probabilities"),
    "extra_output": lambda model: model.graph.output.append(model.graph.output[0]),
    "wrong_vocabulary": lambda model: setattr(model.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 9),
    "wrong_top_k": constant([64], [1 << 40]),
    "wrong_bits": attribute("GatherBlockQuantized", "bits", 4),
    "wrong_block_size": attribute("GatherBlockQuantized", "block_size", 16),
    "huge_block_size": attribute("GatherBlockQuantized", "block_size", 1 << 62),
    "wrong_axis": attribute("GatherBlockQuantized", "gather_axis", 1),
    "infinite_epsilon": attribute("RMSNormalization", "epsilon", float("inf")),
    "integer_for_a_float": attribute("RMSNormalization", "epsilon", 1),
    "extra_attribute": attribute("Attention", "softcap", 1.0),
    "reshape_bomb": constant([-1, 256], [1 << 40, 256]),
    "expand_bomb": expand_bomb,
    "doubling_nodes": more_nodes,
    "rewired_weight": rewired("MatMulIntegerToFloat", 1, "model.layers.4.mlp.up_proj.weight"),
    "rewired_scales": rewired("MatMulIntegerToFloat", 3, "model.norm.weight"),
    "reads_nothing": rewired("Cos", 0, "nowhere"),
    "cycle": cycle,
    "nodes_backwards": backwards,
    "node_twice": lambda model: model.graph.node.append(model.graph.node[5]),
    "node_missing": lambda model: model.graph.node.remove(node(model, "Sigmoid")),
    "no_nodes": lambda model: model.graph.ClearField("node"),
    "declared_twice": declared_twice,
    "weight_of_another_type": lambda model: setattr(tensor(model), "data_type", 2),
    "weight_of_an_unknown_type": lambda model: setattr(tensor(model), "data_type", 99),
    "weight_of_another_shape": lambda model: tensor(model).dims.__setitem__(0, 65),
    "weight_shape_overflows": lambda model: tensor(model).dims.__setitem__(slice(None), [1 << 40, 1 << 40]),
    "weight_shape_negative": lambda model: tensor(model).dims.__setitem__(0, -256),
    "weight_of_many_dimensions": lambda model: tensor(model).dims.extend([1] * 5000),
    "weight_missing": lambda model: model.graph.initializer.remove(tensor(model)),
    "weight_twice": lambda model: model.graph.initializer.append(tensor(model)),
    "weight_extra": lambda model: setattr(model.graph.initializer.add(), "name", "more"),
    "weight_inside_the_file": weight_inside,
    "constant_too_large": lambda model: model.graph.initializer.append(
        numpy_helper.from_array(np.zeros(1 << 14, np.float32), "more")
    ),
    "outside_the_artifact": place("location", "../secrets.bin"),
    "absolute_location": place("location", "/etc/passwd"),
    "location_is_a_device": place("location", "/dev/zero"),
    "location_is_the_manifest": place("location", "manifest.json"),
    "location_is_an_address": place("location", "*/_ORT_MEM_ADDR_/*"),
    "offset_beyond_the_end": place("offset", str(1 << 40)),
    "offset_negative": place("offset", "-64"),
    "offset_huge": place("offset", "9" * 400),
    "offset_with_underscores": place("offset", "1_0"),
    "offset_not_aligned": place("offset", "2", "model.norm.weight"),
    "length_of_another": place("length", "12"),
    "overlapping": place("offset", "0", "model.layers.0.self_attn.q_proj.weight"),
}


def bytes_instead(data: bytes) -> Callable[[Path], str]:
    def damage(artifact: Path) -> str:
        (artifact / GRAPH).write_bytes(data)
        relist(artifact)
        return GRAPH

    return damage


def changed(change: Change) -> Callable[[Path], str]:
    def damage(artifact: Path) -> str:
        change_graph(artifact, change)
        return GRAPH

    return damage


def twice(artifact: Path) -> str:
    (artifact / GRAPH).write_bytes((artifact / GRAPH).read_bytes() * 2)
    relist(artifact)
    return GRAPH


DAMAGES: dict[str, Callable[[Path], str]] = {
    **{name: changed(change) for name, change in GRAPHS.items()},
    "graph_twice": twice,
    "varint_bomb": bytes_instead(b"\x80" * 300_000),
    "length_bomb": bytes_instead(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
    "empty_nodes": bytes_instead(b"\x3a\x80\x80\x10" + b"\x0a\x00" * (1 << 17)),
    "deep_messages": bytes_instead(b"\x3a\x7e" * 100_000),
    "zeros": bytes_instead(bytes(300_000)),
    "graph_too_large": bytes_instead(bytes(100 << 20)),
}

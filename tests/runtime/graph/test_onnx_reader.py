"""The reader of ONNX declarations against the onnx package, and against anything that is not ONNX."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dream_edge_runtime.format.recipe import SCHEMES
from dream_edge_runtime.graph.onnx_reader import Constant, MalformedGraph, read_onnx
from support.artifacts import GRAPH, make_artifact


def small_model() -> onnx.ModelProto:
    """One node, one external weight, one constant in the file."""
    weight = TensorProto(name="w", data_type=TensorProto.INT8, dims=[3, 300], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("offset", "64"), ("length", "900")):
        weight.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "c"], ["y"]), helper.make_node("Own", ["y"], ["z"], domain="com.own")],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT16, [])],
        [weight, numpy_helper.from_array(np.array([2.0], np.float32), "c")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23), helper.make_opsetid("com.own", 2)])


Change = Callable[[onnx.ModelProto], object]


def plain(value: Any) -> object:
    """An attribute's value, from either reader, as Python compares it."""
    if isinstance(value, Constant):
        return value.dtype, value.shape, value.data
    if isinstance(value, onnx.TensorProto):
        array = numpy_helper.to_array(value)
        return array.dtype.name, array.shape, array.tobytes()
    return tuple(value) if isinstance(value, list) else value


SMALL = small_model().SerializeToString()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_declarations_are_those_the_onnx_package_reads(tmp_path: Path, scheme: str) -> None:
    data = (make_artifact(tmp_path, scheme).path / GRAPH).read_bytes()
    model, found = onnx.load_from_string(data), read_onnx(data)
    assert found.opsets == {entry.domain: entry.version for entry in model.opset_import}
    assert [(node.name, node.domain, node.operator, list(node.inputs), list(node.outputs)) for node in found.nodes] == [
        (node.name, node.domain, node.op_type, list(node.input), list(node.output)) for node in model.graph.node
    ]
    for node, expected_node in zip(found.nodes, model.graph.node, strict=True):
        assert {name: plain(value) for name, value in node.attributes.items()} == {
            each.name: plain(helper.get_attribute_value(each)) for each in expected_node.attribute
        }
    for ports, expected in (
        (found.inputs, model.graph.input),
        (found.outputs, model.graph.output),
        (found.declared, model.graph.value_info),
    ):
        assert [port.name for port in ports] == [value.name for value in expected]
        assert [port.shape for port in ports] == [
            tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param
                for dim in value.type.tensor_type.shape.dim
            )
            for value in expected
        ]
    assert [(item.name, item.shape) for item in found.initializers] == [
        (tensor.name, tuple(tensor.dims)) for tensor in model.graph.initializer
    ]
    for item, tensor in zip(found.initializers, model.graph.initializer, strict=True):
        external = {entry.key: entry.value for entry in tensor.external_data}
        assert item.location == external.get("location")
        assert (item.offset, item.length) == (int(external.get("offset", 0)), int(external.get("length", 0)))
        if item.data is not None:
            assert item.data == numpy_helper.to_array(tensor).tobytes()


def test_small_model_is_read_in_full() -> None:
    found = read_onnx(SMALL)
    assert found.opsets == {"": 23, "com.own": 2}
    assert [(node.domain, node.operator, node.inputs, node.outputs) for node in found.nodes] == [
        ("", "Mul", ("x", "c"), ("y",)),
        ("com.own", "Own", ("y",), ("z",)),
    ]
    assert [(port.name, port.dtype, port.shape) for port in found.inputs] == [("x", "float32", ("batch", 4))]
    assert [(port.name, port.dtype, port.shape) for port in found.outputs] == [("z", "float16", ())]
    weight, constant = found.initializers
    assert (weight.dtype, weight.shape, weight.location) == ("int8", (3, 300), "weights.bin")
    assert (weight.offset, weight.length) == (64, 900)
    assert (constant.dtype, constant.shape, constant.location) == ("float32", (1,), None)
    assert constant.data == np.array([2.0], "<f4").tobytes()


def with_function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [], [helper.make_opsetid("", 23)]))


def with_attribute(**attribute: Any) -> Change:
    return lambda model: model.graph.node[0].attribute.append(helper.make_attribute(*next(iter(attribute.items()))))


def with_external_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("value", model.graph.initializer[0]))


def with_list_of_tensors(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("values", [model.graph.initializer[1]] * 2))


def with_subgraph(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("body", model.graph))


def with_attribute_twice(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.extend([helper.make_attribute("axis", 1), helper.make_attribute("axis", 2)])


def with_attribute_of_two_types(model: onnx.ModelProto) -> None:
    attribute = helper.make_attribute("axis", 1)
    attribute.f = 2.0
    model.graph.node[0].attribute.append(attribute)


def with_weight_in_two_places(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"\0" * 900


def with_shape_bomb(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].dims[:] = [1 << 40, 1 << 40]


REFUSED: dict[str, Change] = {
    "function": with_function,
    "subgraph": with_subgraph,
    "sparse": lambda model: model.graph.sparse_initializer.add(),
    "external_attribute": with_external_attribute,
    "list_of_tensors": with_list_of_tensors,
    "text_attribute": with_attribute(mode="linear"),
    "list_of_floats": with_attribute(scales=[1.0, 2.0]),
    "many_numbers": with_attribute(perm=list(range(9))),
    "attribute_twice": with_attribute_twice,
    "attribute_of_two_types": with_attribute_of_two_types,
    "training": lambda model: model.training_info.add(),
    "session_options": lambda model: helper.set_model_props(model, {"ort_config": "{}"}),
    "quantization_annotation": lambda model: model.graph.quantization_annotation.add(),
    "node_metadata": lambda model: model.graph.node[0].metadata_props.add(key="layer_ann", value="cpu"),
    "function_overload": lambda model: setattr(model.graph.node[0], "overload", "x"),
    "weight_in_two_places": with_weight_in_two_places,
    "shape_bomb": with_shape_bomb,
    "typed_data": lambda model: model.graph.initializer[1].float_data.append(1.0),
    "string_data": lambda model: model.graph.initializer[1].string_data.append(b"x"),
    "no_data": lambda model: model.graph.initializer[1].ClearField("raw_data"),
    "less_data_than_shape": lambda model: setattr(model.graph.initializer[1], "raw_data", b"\0\0"),
    "no_length": lambda model: model.graph.initializer[0].external_data.pop(),
    "location_twice": lambda model: model.graph.initializer[0].external_data.add(key="location", value="x"),
    "checksum": lambda model: model.graph.initializer[0].external_data.add(key="checksum", value="x"),
    "sequence_input": lambda model: model.graph.input[0].type.sequence_type.elem_type.tensor_type.Clear(),
    "long_name": lambda model: setattr(model.graph.node[0], "name", "n" * 5000),
    "operator_set_twice": lambda model: model.opset_import.append(helper.make_opsetid("", 23)),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_what_this_package_never_writes_is_refused(change: Change) -> None:
    model = small_model()
    change(model)
    with pytest.raises(MalformedGraph):
        read_onnx(model.SerializeToString())


def test_two_graphs_are_refused() -> None:
    """Protocol buffers would merge them; a reader that sees only one of them can be fooled."""
    graph = small_model().graph.SerializeToString()
    with pytest.raises(MalformedGraph, match="twice"):
        read_onnx(SMALL + b"\x3a" + bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7]) + graph)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no graph"),
        (b"\x80" * 11, "64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x7f", "64 bits"),
        (b"\x3a\xff\xff\xff\xff\x0f", "middle of a field"),
        (b"\x3b", "wire type 3"),
        (b"\x3d\0\0\0\0", "wire type 5"),
        (b"\x00\x00", "field 0"),
        (b"\x38\x01", "wire type 0"),
        (b'{"json": 1}', "field 15"),
    ],
)
def test_what_is_not_a_model_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedGraph, match=why):
        read_onnx(data)


@pytest.mark.parametrize("end", range(0, len(SMALL), 7))
def test_truncated_model_is_refused_or_lacks_something(end: int) -> None:
    with suppress(MalformedGraph):
        assert read_onnx(SMALL[:end]) != read_onnx(SMALL)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
@example(b"\x3a\x00")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(MalformedGraph):
        read_onnx(data)


@settings(max_examples=600, deadline=None)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 8))
def test_mutated_model_is_read_or_refused(seed: int, changes: int) -> None:
    rng = random.Random(seed)
    data = bytearray(SMALL)
    for _ in range(changes):
        position = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[position] ^= 1 << rng.randrange(8)
            case 1:
                data[position] = rng.choice((0, 0x7F, 0x80, 0xFF))
            case 2:
                del data[position : position + rng.randrange(1, 20)]
            case 3:
                data[position:position] = rng.randbytes(rng.randrange(1, 12))
        data = data or bytearray(b"\0")
    with suppress(MalformedGraph):
        read_onnx(bytes(data))

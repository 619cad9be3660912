"""The reader of ONNX declarations against the onnx package, and against anything that is not ONNX."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from dream_edge_runtime.onnx_reader import MalformedGraph, read_onnx
from dream_edge_runtime.recipe import SCHEMES
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
        [weight, helper.make_tensor("c", TensorProto.FLOAT, [1], [2.0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23), helper.make_opsetid("com.own", 2)])


SMALL = small_model().SerializeToString()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_declarations_are_those_the_onnx_package_reads(tmp_path: Path, scheme: str) -> None:
    data = (make_artifact(tmp_path, scheme).path / GRAPH).read_bytes()
    model, found = onnx.load_from_string(data), read_onnx(data)
    assert found.opsets == {entry.domain: entry.version for entry in model.opset_import}
    assert found.operators == {(node.domain, node.op_type) for node in model.graph.node}
    for ports, expected in ((found.inputs, model.graph.input), (found.outputs, model.graph.output)):
        assert [port.name for port in ports] == [value.name for value in expected]
        assert [port.shape for port in ports] == [
            tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in expected
        ]
    assert [(item.name, item.shape) for item in found.initializers] == [
        (tensor.name, tuple(tensor.dims)) for tensor in model.graph.initializer
    ]
    for item, tensor in zip(found.initializers, model.graph.initializer, strict=True):
        external = {entry.key: entry.value for entry in tensor.external_data}
        assert item.location == external.get("location")
        assert (item.offset, item.length) == (int(external.get("offset", 0)), int(external.get("length", 0)))
    assert (found.has_functions, found.has_subgraphs, found.has_other_tensors) == (False, False, False)


def test_small_model_is_read_in_full() -> None:
    found = read_onnx(SMALL)
    assert found.opsets == {"": 23, "com.own": 2}
    assert found.operators == {("", "Mul"), ("com.own", "Own")}
    assert [(port.name, port.dtype, port.shape) for port in found.inputs] == [("x", "float32", ("batch", 4))]
    assert [(port.name, port.dtype, port.shape) for port in found.outputs] == [("z", "float16", ())]
    weight, constant = found.initializers
    assert (weight.dtype, weight.shape, weight.location) == ("int8", (3, 300), "weights.bin")
    assert (weight.offset, weight.length) == (64, 900)
    assert (constant.dtype, constant.shape, constant.location) == ("float32", (1,), None)


def test_functions_are_noticed() -> None:
    model = small_model()
    model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [], [helper.make_opsetid("", 23)]))
    assert read_onnx(model.SerializeToString()).has_functions


def test_subgraphs_are_noticed() -> None:
    model = small_model()
    model.graph.node[0].attribute.append(helper.make_attribute("body", model.graph))
    assert read_onnx(model.SerializeToString()).has_subgraphs


@pytest.mark.parametrize("kind", ["sparse", "external_attribute", "list_of_tensors"])
def test_tensors_in_unusual_places_are_noticed(kind: str) -> None:
    model = small_model()
    if kind == "sparse":
        model.graph.sparse_initializer.add()
    elif kind == "external_attribute":
        model.graph.node[0].attribute.append(helper.make_attribute("value", model.graph.initializer[0]))
    else:
        model.graph.node[0].attribute.append(helper.make_attribute("values", [model.graph.initializer[1]] * 2))
    assert read_onnx(model.SerializeToString()).has_other_tensors


def test_two_graphs_are_refused() -> None:
    """Protocol buffers would merge them; a reader that sees only one of them can be fooled."""
    with pytest.raises(MalformedGraph, match="two graphs"):
        read_onnx(SMALL + SMALL)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no graph"),
        (b"\x80" * 11, "number"),
        (b"\x3a\xff\xff\xff\xff\x0f", "middle of a field"),
        (b"\x3b", "wire type 3"),
        (b"\x38\x01", "number where a message"),
        (b'{"json": 1}', "wire type 3"),
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

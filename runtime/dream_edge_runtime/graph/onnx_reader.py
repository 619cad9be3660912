"""Reads an ONNX model without the onnx package: nodes, inputs, outputs, initializers and declared types.

Only what this package's exporter writes is read: anything else that the format has (functions, subgraphs, sparse
tensors, training information, metadata that ONNX Runtime would act on …) raises `MalformedGraph`, as do malformed
bytes. The numbers are those of onnx.proto.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from .protobuf import Field, Kind, MalformedGraph, content, fields, integers, signed, text, unsigned

__all__ = ["Constant", "Initializer", "MalformedGraph", "Node", "OnnxGraph", "Port", "read_onnx"]

ELEMENT_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}
BYTES = {"float32": 4, "uint8": 1, "int8": 1, "int32": 4, "int64": 8, "bool": 1, "float16": 2}

LARGEST_RANK = 8
LARGEST_CONSTANT = 1 << 14
"""Bytes of data inside the file: scalars, shapes and the rotary frequencies."""

_EXTERNAL = 1  # TensorProto.DataLocation
_FLOAT, _INT, _TENSOR, _INTS = 1, 2, 4, 7  # AttributeProto.AttributeType
_POSITION = re.compile(r"[0-9]{1,16}")

_MODEL = {1: Kind.NUMBER, 2: Kind.BYTES, 7: Kind.BYTES, 8: Kind.REPEATED}
_OPSET = {1: Kind.BYTES, 2: Kind.NUMBER}
_GRAPH = {2: Kind.BYTES, **dict.fromkeys((1, 5, 11, 12, 13), Kind.REPEATED)}
_NODE = {**dict.fromkeys((3, 4, 7), Kind.BYTES), **dict.fromkeys((1, 2, 5, 9), Kind.REPEATED)}
_ATTRIBUTE = {1: Kind.BYTES, 2: Kind.FLOAT, 3: Kind.NUMBER, 5: Kind.BYTES, 8: Kind.NUMBERS, 20: Kind.NUMBER}
_TENSOR_FIELDS = {1: Kind.NUMBERS, 2: Kind.NUMBER, 8: Kind.BYTES, 9: Kind.BYTES, 13: Kind.REPEATED, 14: Kind.NUMBER}
_PAIR = {1: Kind.BYTES, 2: Kind.BYTES}
_PORT = {1: Kind.BYTES, 2: Kind.BYTES}
_TYPE = {1: Kind.BYTES}
_TENSOR_TYPE = {1: Kind.NUMBER, 2: Kind.BYTES}
_SHAPE = {1: Kind.REPEATED}
_DIMENSION = {1: Kind.NUMBER, 2: Kind.BYTES}
_METADATA = re.compile(r"namespace|pkg\.onnxscript\.\w+")  # of nodes, for viewers


@dataclass(frozen=True)
class Constant:
    """A tensor whose data lies in the file: little-endian bytes, as many as its shape and type need."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


AttributeValue = int | float | tuple[int, ...] | Constant


@dataclass(frozen=True)
class Initializer:
    """A weight or a constant. A weight has a `location`, a constant has `data`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    location: str | None = None
    offset: int = 0
    length: int = 0
    data: bytes | None = None


@dataclass(frozen=True)
class Port:
    """A graph input or output; a free dimension carries its name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Node:
    name: str
    domain: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue]


@dataclass
class OnnxGraph:
    """A model, all lists in the order of the file. `declared`: types of values inside the graph."""

    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    initializers: list[Initializer] = field(default_factory=list)
    declared: list[Port] = field(default_factory=list)


def read_onnx(data: bytes) -> OnnxGraph:
    """The serialized ModelProto `data`. Raises MalformedGraph."""
    model = OnnxGraph()
    has_graph = False
    for number, value in fields(memoryview(data), "model", _MODEL):
        if number == 1:
            model.ir_version = signed(value)
        elif number == 7:
            has_graph = True
            _read_graph(content(value), model)
        elif number == 8:
            _read_opset(content(value), model)
    if not has_graph:
        raise MalformedGraph("no graph in the model")
    return model


def _read_opset(data: memoryview, model: OnnxGraph) -> None:
    domain, version = "", 0
    for number, value in fields(data, "operator set", _OPSET):
        if number == 1:
            domain = text(value)
        else:
            version = signed(value)
    if domain in model.opsets:
        raise MalformedGraph(f"operator set {domain!r} is there twice")
    model.opsets[domain] = version


def _read_graph(data: memoryview, model: OnnxGraph) -> None:
    ports = {11: model.inputs, 12: model.outputs, 13: model.declared}
    for number, value in fields(data, "graph", _GRAPH):
        if number == 1:
            model.nodes.append(_read_node(content(value)))
        elif number == 5:
            model.initializers.append(_read_tensor(content(value)))
        elif number in ports:
            ports[number].append(_read_port(content(value)))


def _read_node(data: memoryview) -> Node:
    texts = {3: "", 4: "", 7: ""}
    inputs, outputs = [], []
    attributes: dict[str, AttributeValue] = {}
    for number, value in fields(data, "node", _NODE):
        if number == 1:
            inputs.append(text(value))
        elif number == 2:
            outputs.append(text(value))
        elif number in texts:
            texts[number] = text(value)
        elif number == 5:
            name, attribute = _read_attribute(content(value))
            if name in attributes:
                raise MalformedGraph(f"attribute {name!r} is there twice")
            attributes[name] = attribute
        elif number == 9:
            _check_metadata(content(value))
    return Node(texts[3], texts[7], texts[4], tuple(inputs), tuple(outputs), attributes)


def _check_metadata(data: memoryview) -> None:
    key = ""
    for number, value in fields(data, "metadata entry", _PAIR):
        if number == 1:
            key = text(value)
        elif len(content(value)) > 1 << 12:
            raise MalformedGraph("metadata of more than 4 kB")
    if not _METADATA.fullmatch(key):
        raise MalformedGraph(f"metadata {key!r} is not what dream-edge writes")


def _read_attribute(data: memoryview) -> tuple[str, AttributeValue]:
    """The value must be of the type that the attribute declares, and the only one."""
    name, kind = "", 0
    values: dict[int, AttributeValue] = {}
    for number, value in fields(data, "attribute", _ATTRIBUTE):
        if number == 1:
            name = text(value)
        elif number == 20:
            kind = unsigned(value)
        elif number == 2:
            values[_FLOAT] = float(struct.unpack("<f", content(value))[0])
        elif number == 3:
            values[_INT] = signed(value)
        elif number == 5:
            tensor = _read_tensor(content(value))
            if tensor.data is None:
                raise MalformedGraph(f"attribute {name!r} points outside the file")
            values[_TENSOR] = Constant(tensor.dtype, tensor.shape, tensor.data)
        elif number == 8:
            held = values.get(_INTS, ())
            values[_INTS] = (*(held if isinstance(held, tuple) else ()), *integers(value))
            if len(values[_INTS]) > LARGEST_RANK:  # type: ignore[arg-type]  # a tuple
                raise MalformedGraph(f"attribute {name!r} has more than {LARGEST_RANK} numbers")
    if kind == _INT and not values:
        return name, 0  # some writers leave out what is zero
    if set(values) != {kind}:
        raise MalformedGraph(f"attribute {name!r} is not of the type it says")
    return name, values[kind]


def _read_tensor(data: memoryview) -> Initializer:
    name, dtype, location = "", "", 0
    shape: list[int] = []
    raw: memoryview | None = None
    external: dict[str, str] = {}
    for number, value in fields(data, "tensor", _TENSOR_FIELDS):
        if number == 1:
            shape += integers(value)
            if len(shape) > LARGEST_RANK:
                raise MalformedGraph(f"a tensor of more than {LARGEST_RANK} dimensions")
        elif number == 2:
            dtype = _element_type(value)
        elif number == 8:
            name = text(value)
        elif number == 9:
            raw = content(value)
        elif number == 13:
            _read_external(content(value), external)
        elif number == 14:
            location = unsigned(value)
    if location == _EXTERNAL:
        if raw is not None or external.keys() - {"offset"} != {"location", "length"}:
            raise MalformedGraph(f"weight {name!r} does not say where its data lies")
        offset, length = (_position(external.get(key, "0"), name) for key in ("offset", "length"))
        return Initializer(name, dtype, tuple(shape), external["location"], offset, length)
    if location or external:
        raise MalformedGraph(f"tensor {name!r} lies in two places")
    return Initializer(name, dtype, tuple(shape), data=_inline(name, dtype, shape, raw))


def _inline(name: str, dtype: str, shape: list[int], raw: memoryview | None) -> bytes:
    size = BYTES.get(dtype, 0)
    for length in shape:
        if not 0 < length <= LARGEST_CONSTANT:
            raise MalformedGraph(f"constant {name!r} has shape {shape}")
        size *= length
    if raw is None or not 0 < size <= LARGEST_CONSTANT or len(raw) != size:
        raise MalformedGraph(f"constant {name!r} ({dtype} {shape}) does not hold that much data, or is too large")
    return bytes(raw)


def _read_external(data: memoryview, external: dict[str, str]) -> None:
    key = where = ""
    for number, value in fields(data, "external data entry", _PAIR):
        if number == 1:
            key = text(value)
        else:
            where = text(value)
    if key in external:
        raise MalformedGraph(f"external data says {key!r} twice")
    external[key] = where


def _position(digits: str, name: str) -> int:
    if not _POSITION.fullmatch(digits):
        raise MalformedGraph(f"weight {name!r} has {digits[:40]!r} for a position in a file")
    return int(digits)


def _read_port(data: memoryview) -> Port:
    name = dtype = ""
    shape: list[int | str] = []
    for number, value in fields(data, "value", _PORT):
        if number == 1:
            name = text(value)
            continue
        for _, tensor_type in fields(content(value), "type", _TYPE):
            for inner, item in fields(content(tensor_type), "tensor type", _TENSOR_TYPE):
                if inner == 1:
                    dtype = _element_type(item)
                else:
                    dimensions = fields(content(item), "shape", _SHAPE)
                    shape = [_read_dimension(content(dimension)) for _, dimension in dimensions]
    if len(shape) > LARGEST_RANK:
        raise MalformedGraph(f"value {name!r} has more than {LARGEST_RANK} dimensions")
    return Port(name, dtype, tuple(shape))


def _read_dimension(data: memoryview) -> int | str:
    found = list(fields(data, "dimension", _DIMENSION))
    if len(found) > 1:
        raise MalformedGraph("a dimension has two lengths")
    for number, value in found:
        return signed(value) if number == 1 else text(value)
    return ""


def _element_type(value: Field) -> str:
    code = unsigned(value)
    return ELEMENT_TYPES.get(code, f"type {code}")

"""Writes an ONNX model without the onnx package: the counterpart of `onnx_reader`, for the same part of the format."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .onnx_reader import ELEMENT_TYPES, AttributeValue, Constant, Initializer, Node, OnnxGraph, Port
from .protobuf import DELIMITED, FIXED32, VARINT

_CODES = {name: code for code, name in ELEMENT_TYPES.items()}
_EXTERNAL = 1  # TensorProto.DataLocation
_FLOAT, _INT, _TENSOR, _INTS = 1, 2, 4, 7  # AttributeProto.AttributeType


def write_onnx(graph: OnnxGraph, *, producer: str, name: str) -> bytes:
    """The serialized ModelProto, which `read_onnx` reads as `graph` again; the numbers are those of onnx.proto."""
    opsets = (_message(8, _text(1, domain) + _number(2, version)) for domain, version in sorted(graph.opsets.items()))
    return b"".join([_number(1, graph.ir_version), _text(2, producer), _message(7, _graph(graph, name)), *opsets])


def _graph(graph: OnnxGraph, name: str) -> bytes:
    parts = [_message(1, _node(node)) for node in graph.nodes]
    parts.append(_text(2, name))
    parts += [_message(5, _initializer(item)) for item in graph.initializers]
    for number, ports in ((11, graph.inputs), (12, graph.outputs), (13, graph.declared)):
        parts += [_message(number, _port(port)) for port in ports]
    return b"".join(parts)


def _node(node: Node) -> bytes:
    parts = [_text(1, each) for each in node.inputs] + [_text(2, each) for each in node.outputs]
    parts += [_text(3, node.name), _text(4, node.operator)]
    parts += [_message(5, _attribute(name, value)) for name, value in node.attributes.items()]
    return b"".join([*parts, _text(7, node.domain)])


def _attribute(name: str, value: AttributeValue) -> bytes:
    if isinstance(value, Constant):
        kind, data = _TENSOR, _message(5, _tensor("", value.dtype, value.shape) + _message(9, value.data))
    elif isinstance(value, tuple):
        kind, data = _INTS, b"".join(_number(8, each) for each in value)
    elif isinstance(value, float):
        kind, data = _FLOAT, _tag(2, FIXED32) + struct.pack("<f", value)
    else:
        kind, data = _INT, _number(3, value)
    return _text(1, name) + data + _number(20, kind)


def _initializer(item: Initializer) -> bytes:
    tensor = _tensor(item.name, item.dtype, item.shape)
    if item.data is not None:
        return tensor + _message(9, item.data)
    place = {"location": str(item.location), "offset": str(item.offset), "length": str(item.length)}
    entries = (_message(13, _text(1, key) + _text(2, value)) for key, value in place.items())
    return b"".join([tensor, *entries, _number(14, _EXTERNAL)])


def _tensor(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    return b"".join([*(_number(1, length) for length in shape), _number(2, _CODES[dtype]), _text(8, name)])


def _port(port: Port) -> bytes:
    shape = b"".join(_message(1, each) for each in _dimensions(port.shape))
    return _text(1, port.name) + _message(2, _message(1, _number(1, _CODES[port.dtype]) + _message(2, shape)))


def _dimensions(shape: tuple[int | str, ...]) -> Iterator[bytes]:
    for length in shape:
        yield _text(2, length) if isinstance(length, str) else _number(1, length)


def _text(number: int, value: str) -> bytes:
    return _message(number, value.encode())


def _message(number: int, data: bytes) -> bytes:
    return _tag(number, DELIMITED) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _tag(number, VARINT) + _varint(value % (1 << 64))


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)

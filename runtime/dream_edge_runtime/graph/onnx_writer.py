"""Writes a recorded graph as an ONNX file: a ModelProto, in the wire format of protocol buffers.

Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; the wire format is described in
https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from ..format.layout import Place, TensorSpec
from .op import ELEMENT_TYPES, MICROSOFT, OPSET, Attribute, Node, Op

PRODUCER = "dream-edge"
_IR_VERSION = 11  # the first with opset 23
_EXTERNAL = 1  # TensorProto.DataLocation
_FLOAT, _INT, _INTS = 1, 2, 7  # AttributeProto.AttributeType


def write_onnx(op: Op, outputs: Iterable[TensorSpec], *, name: str) -> bytes:
    """The file of the graph in `op`, called `name`, with its weights outside. `outputs` describes `op.outputs`."""
    public = {value.name: name for name, value in op.outputs.items()}
    parts = [_message(1, _node(node, public)) for node in op.nodes]
    parts.append(_text(2, name))
    parts += [_message(5, _weight(place)) for place in op.weights.values()]
    parts += [_message(5, _constant(name, array)) for name, array in op.constants.items()]
    parts += [_message(11, _port(spec)) for spec in op.inputs.values()]
    parts += [_message(12, _port(spec)) for spec in outputs]
    opsets = (_message(8, _text(1, domain) + _number(2, version)) for domain, version in (("", OPSET), (MICROSOFT, 1)))
    return b"".join([_number(1, _IR_VERSION), _text(2, PRODUCER), _message(7, b"".join(parts)), *opsets])


def _node(node: Node, public: dict[str, str]) -> bytes:
    parts = [_text(1, public.get(each, each)) for each in node.inputs]
    parts += [_text(2, public.get(each, each)) for each in node.outputs]
    parts += [_text(3, node.name), _text(4, node.operator)]
    parts += [_message(5, _attribute(name, value)) for name, value in node.attributes.items()]
    return b"".join([*parts, _text(7, node.domain)])


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        kind, data = _INT, _number(3, value)
    elif isinstance(value, float):
        kind, data = _FLOAT, _tag(2, 5) + struct.pack("<f", value)
    else:
        kind, data = _INTS, b"".join(_number(8, each) for each in value)
    return _text(1, name) + data + _number(20, kind)


def _weight(place: Place) -> bytes:
    where = {"location": place.shard, "offset": str(place.offset), "length": str(place.size)}
    entries = (_message(13, _text(1, key) + _text(2, value)) for key, value in where.items())
    return b"".join([_tensor(place.spec), *entries, _number(14, _EXTERNAL)])


def _constant(name: str, array: NDArray[Any]) -> bytes:
    return _tensor(TensorSpec(name, array.dtype.name, array.shape)) + _message(9, array.tobytes())


def _tensor(spec: TensorSpec) -> bytes:
    lengths = (_number(1, int(length)) for length in spec.shape)
    return b"".join([*lengths, _number(2, ELEMENT_TYPES[spec.dtype]), _text(8, spec.name)])


def _port(spec: TensorSpec) -> bytes:
    lengths = (_text(2, each) if isinstance(each, str) else _number(1, each) for each in spec.shape)
    shape = b"".join(_message(1, each) for each in lengths)
    tensor = _number(1, ELEMENT_TYPES[spec.dtype]) + _message(2, shape)
    return _text(1, spec.name) + _message(2, _message(1, tensor))


def _text(number: int, value: str) -> bytes:
    return _message(number, value.encode())


def _message(number: int, data: bytes) -> bytes:
    return _tag(number, 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _tag(number, 0) + _varint(value % (1 << 64))


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the eighth says that more follow."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)

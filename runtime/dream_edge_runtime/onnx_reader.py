"""Reads what an ONNX file declares, without the onnx package: nodes, inputs, outputs and initializers.

Only the fields that a check needs are kept; the numbers are those of onnx.proto (protocol buffers wire format).
Anything malformed raises `MalformedGraph`, and nothing is allocated that the file does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

ELEMENT_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}

_EXTERNAL = 1  # TensorProto.DataLocation
_SUBGRAPH_FIELDS = (6, 11)  # AttributeProto.g, .graphs


class MalformedGraph(ValueError):
    """The bytes are not the ONNX model they claim to be."""


@dataclass(frozen=True)
class Initializer:
    """A weight or constant. `location` is None where the data lies in the file itself."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    location: str | None = None
    offset: int = 0
    length: int = 0


@dataclass(frozen=True)
class Port:
    """A graph input or output; a free dimension carries its name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class OnnxGraph:
    """The declarations of a model."""

    opsets: dict[str, int]
    operators: frozenset[tuple[str, str]]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    initializers: tuple[Initializer, ...]
    has_functions: bool = False
    has_subgraphs: bool = False
    has_other_tensors: bool = False


@dataclass
class _Parts:
    operators: set[tuple[str, str]] = field(default_factory=set)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    initializers: list[Initializer] = field(default_factory=list)
    has_subgraphs: bool = False
    has_other_tensors: bool = False


def read_onnx(data: bytes) -> OnnxGraph:
    """The declarations of the serialized ModelProto `data`."""
    opsets: dict[str, int] = {}
    parts: _Parts | None = None
    has_functions = False
    for number, value in _fields(memoryview(data)):
        if number == 7:
            if parts is not None:
                raise MalformedGraph("two graphs in one model")
            parts = _read_graph(_message(value))
        elif number == 8:
            domain, version = "", 0
            for inner, item in _fields(_message(value)):
                if inner == 1:
                    domain = _text(item)
                elif inner == 2:
                    version = _integer(item)
            opsets["" if domain == "ai.onnx" else domain] = version
        elif number == 25:
            has_functions = True
    if parts is None:
        raise MalformedGraph("no graph in the model")
    return OnnxGraph(
        opsets=opsets,
        operators=frozenset(parts.operators),
        inputs=tuple(parts.inputs),
        outputs=tuple(parts.outputs),
        initializers=tuple(parts.initializers),
        has_functions=has_functions,
        has_subgraphs=parts.has_subgraphs,
        has_other_tensors=parts.has_other_tensors,
    )


def _read_graph(data: memoryview) -> _Parts:
    parts = _Parts()
    for number, value in _fields(data):
        if number == 1:
            _read_node(_message(value), parts)
        elif number == 5:
            parts.initializers.append(_read_tensor(_message(value)))
        elif number == 11:
            parts.inputs.append(_read_port(_message(value)))
        elif number == 12:
            parts.outputs.append(_read_port(_message(value)))
        elif number == 15:
            parts.has_other_tensors = True  # sparse initializers
    return parts


def _read_node(data: memoryview, parts: _Parts) -> None:
    operator, domain = "", ""
    for number, value in _fields(data):
        if number == 4:
            operator = _text(value)
        elif number == 7:
            domain = _text(value)
        elif number == 5:
            for inner, item in _fields(_message(value)):
                if inner in _SUBGRAPH_FIELDS:
                    parts.has_subgraphs = True
                elif inner == 5 and _read_tensor(_message(item)).location is not None:
                    parts.has_other_tensors = True  # an attribute that points outside the file
                elif inner in (10, 22, 23):
                    parts.has_other_tensors = True  # lists of tensors, sparse tensors
    parts.operators.add(("" if domain == "ai.onnx" else domain, operator))


def _read_tensor(data: memoryview) -> Initializer:
    name, dtype, shape = "", "", []
    external: dict[str, str] = {}
    is_external = False
    for number, value in _fields(data):
        if number == 1:
            shape += _packed_integers(value)
        elif number == 2:
            dtype = _element_type(value)
        elif number == 8:
            name = _text(value)
        elif number == 13:
            entry = {inner: _text(item) for inner, item in _fields(_message(value))}
            external[entry.get(1, "")] = entry.get(2, "")
        elif number == 14:
            is_external = _integer(value) == _EXTERNAL
    if not is_external:
        return Initializer(name, dtype, tuple(shape))
    try:
        offset, length = int(external.get("offset", "0")), int(external["length"])
    except (KeyError, ValueError):
        raise MalformedGraph(f"{name}: external data without a length") from None
    return Initializer(name, dtype, tuple(shape), external.get("location", ""), offset, length)


def _read_port(data: memoryview) -> Port:
    name, dtype = "", ""
    shape: list[int | str] = []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for _, tensor_type in _where(_message(value), 1):
                for inner, item in _fields(_message(tensor_type)):
                    if inner == 1:
                        dtype = _element_type(item)
                    elif inner == 2:
                        shape = [_read_dimension(_message(dimension)) for _, dimension in _where(_message(item), 1)]
    return Port(name, dtype, tuple(shape))


def _read_dimension(data: memoryview) -> int | str:
    for number, value in _fields(data):
        if number == 1:
            return _integer(value)
        if number == 2:
            return _text(value)
    return ""


# --- wire format -----------------------------------------------------------------------------------------------------

_Value = int | memoryview


def _fields(data: memoryview) -> Iterator[tuple[int, _Value]]:
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire_type = tag & 7
        if wire_type == 0:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if wire_type == 2:
            length, position = _varint(data, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise MalformedGraph(f"unknown wire type {wire_type}")
        if position + length > len(data):
            raise MalformedGraph("the file ends in the middle of a field")
        yield tag >> 3, data[position : position + length]
        position += length


def _where(data: memoryview, wanted: int) -> Iterator[tuple[int, _Value]]:
    return ((number, value) for number, value in _fields(data) if number == wanted)


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise MalformedGraph("the file ends in the middle of a number")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7


def _packed_integers(value: _Value) -> list[int]:
    if isinstance(value, int):
        return [value]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(number)
    return numbers


def _message(value: _Value) -> memoryview:
    if isinstance(value, int):
        raise MalformedGraph("a number where a message belongs")
    return value


def _integer(value: _Value) -> int:
    if not isinstance(value, int):
        raise MalformedGraph("a message where a number belongs")
    return value


def _text(value: _Value) -> str:
    try:
        return bytes(_message(value)).decode()
    except UnicodeDecodeError:
        raise MalformedGraph("a name is not UTF-8") from None


def _element_type(value: _Value) -> str:
    code = _integer(value)
    return ELEMENT_TYPES.get(code, f"type {code}")

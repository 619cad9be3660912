"""The wire format of protocol buffers, read strictly: only the fields a caller names, each as often as it may occur.

A lenient reader and the one that later runs the model could see two different things in the same bytes (a field that is
repeated, unknown, or of another wire type). Here such bytes are refused. Nothing is allocated that the file does not
hold. See https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

VARINT, DELIMITED, FIXED32 = 0, 2, 5  # wire types

Field = int | memoryview


class Kind(Enum):
    """What a field of a message may be."""

    NUMBER = (VARINT, False)
    FLOAT = (FIXED32, False)
    BYTES = (DELIMITED, False)
    REPEATED = (DELIMITED, True)
    NUMBERS = (None, True)  # repeated integers, packed or one by one


class MalformedGraph(ValueError):
    """The bytes are not the ONNX model they claim to be, or one that this package does not write."""


def fields(data: memoryview, message: str, known: Mapping[int, Kind]) -> Iterator[tuple[int, Field]]:
    """The fields of `data`, a `message` for errors; numbers as `int`, everything else as bytes."""
    seen = set()
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        kind = known.get(number)
        if kind is None:
            raise MalformedGraph(f"field {number} of a {message} is not one that dream-edge writes")
        wanted, repeated = kind.value
        if wire_type != wanted and not (wanted is None and wire_type in (VARINT, DELIMITED)):
            raise MalformedGraph(f"field {number} of a {message} has wire type {wire_type}")
        if number in seen and not repeated:
            raise MalformedGraph(f"field {number} of a {message} is there twice")
        seen.add(number)
        if wire_type == VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        length = 4
        if wire_type == DELIMITED:
            length, position = _varint(data, position)
        if length > end - position:
            raise MalformedGraph(f"a {message} ends in the middle of a field")
        yield number, data[position : position + length]
        position += length


def integers(value: Field) -> list[int]:
    """Signed integers of a field that may be packed."""
    if isinstance(value, int):
        return [signed(value)]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(signed(number))
    return numbers


def signed(value: Field) -> int:
    number = unsigned(value)
    return number - (1 << 64) if number >> 63 else number


def unsigned(value: Field) -> int:
    if not isinstance(value, int):
        raise MalformedGraph("a message where a number belongs")
    return value


def content(value: Field) -> memoryview:
    if isinstance(value, int):
        raise MalformedGraph("a number where a message belongs")
    return value


def text(value: Field, longest: int = 512) -> str:
    data = content(value)
    if len(data) > longest:
        raise MalformedGraph(f"a text of {len(data)} bytes")
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise MalformedGraph("a name is not UTF-8") from None


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(data):
            raise MalformedGraph("the file ends in the middle of a number")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result >> 64:
                raise MalformedGraph("a number of more than 64 bits")
            return result, position
        shift += 7
        if shift > 63:
            raise MalformedGraph("a number of more than 64 bits")

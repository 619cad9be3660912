"""Strict JSON: what every library in every language reads alike, or an error.

No repeated keys, no NaN or infinities, no deep nesting. A value has one canonical form, so that a digest of the bytes
is a digest of the values.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from ..errors import CheckpointNotFound, UnreadableFile

DEEPEST = 8
"""Levels of canonical JSON."""
LARGEST_INTEGER = (1 << 63) - 1
_LARGEST_FILE = 1 << 20
_LONGEST_NUMBER = 32  # characters: as many as a float needs, and more than an integer of 64 bits


def read_json_object(path: Path, *, limit: int = _LARGEST_FILE) -> dict[str, Any]:
    """The JSON object in a checkpoint's file `path` of at most `limit` bytes.

    Raises:
        CheckpointNotFound: there is no such file.
        UnreadableFile: it cannot be read, or holds anything but one JSON object.
    """
    if not path.is_file():
        raise CheckpointNotFound(path.parent, path.name)
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UnreadableFile(path, f"cannot be read ({error.strerror})") from None
    if len(data) > limit:
        raise UnreadableFile(path, f"is larger than {limit} bytes")
    try:
        return parse_json_object(data)
    except ValueError as error:
        raise UnreadableFile(path, str(error)) from None


def parse_json_object(data: bytes | str, *, deepest: int = 64) -> dict[str, Any]:
    """The JSON object in `data`; `ValueError` for anything else, and for nesting of more than `deepest` levels."""
    try:
        value = json.loads(data, parse_constant=_refuse_constant, parse_float=_float, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"holds a JSON {type(value).__name__}, expected an object")
    _check_depth(value, deepest)
    return value


def canonical_json(value: object) -> bytes:
    """UTF-8, sorted keys, no spaces, one line. `ValueError` where `value` has no such form (NaN, lone surrogates)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def parse_canonical(data: bytes) -> Any:
    """The value whose canonical form is exactly `data`. `ValueError` or `RecursionError` if it is no canonical form."""
    value = json.loads(
        data.decode(),
        object_pairs_hook=_unique_keys,
        parse_constant=_refuse_constant,
        parse_int=_short_integer,
        parse_float=_short_float,
    )
    _check_depth(value, DEEPEST)
    if canonical_json(value) != data:
        raise ValueError("its bytes are not the canonical form of its values")
    return value


def describe(value: object) -> str:
    """`value`, or the message of an error, for one line: printable and short even where it quotes a strange file."""
    if isinstance(value, Exception):
        return _shorten("".join(each if each.isprintable() else "?" for each in str(value)), 300)
    return _shorten(ascii(value) if isinstance(value, str) else repr(value), 80)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {describe(key)} is repeated")
        result[key] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number that no 64-bit float is near")
    return number


def _short_float(digits: str) -> float:
    return _float(digits if len(digits) <= _LONGEST_NUMBER else "inf")


def _short_integer(digits: str) -> int:
    number = int(digits) if len(digits) <= _LONGEST_NUMBER else LARGEST_INTEGER + 1
    if abs(number) > LARGEST_INTEGER:
        raise ValueError("an integer of more than 64 bits")
    return number


def _check_depth(value: Any, deepest: int) -> None:
    level = [value]
    for _ in range(deepest + 1):
        level = [each for part in level if isinstance(part, dict | list) for each in _inner(part)]
        if not level:
            return
    raise ValueError(f"nested more than {deepest} deep")


def _inner(part: dict[str, Any] | list[Any]) -> list[Any]:
    return [*part.values()] if isinstance(part, dict) else part

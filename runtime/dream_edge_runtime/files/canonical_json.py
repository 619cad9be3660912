"""JSON in its one canonical form, and a reader that accepts nothing else.

Whoever reads the same bytes, with any JSON library in any language, then reads the same values: no repeated keys, no
numbers that round differently, no NaN. And a digest of the bytes is a digest of the values.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

DEEPEST = 8
LARGEST_INTEGER = (1 << 63) - 1
_LONGEST_NUMBER = 32  # characters: as many as a float needs, and more than an integer of 64 bits


def canonical_json(value: object) -> bytes:
    """UTF-8, sorted keys, no spaces, one line. `ValueError` where `value` has no such form (NaN, lone surrogates)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def parse_canonical(data: bytes) -> Any:
    """The value whose canonical form is exactly `data`. `ValueError` or `RecursionError` where there is none."""
    value = json.loads(
        data.decode(),
        object_pairs_hook=_unique_keys,
        parse_constant=_refuse_constant,
        parse_int=_integer,
        parse_float=_float,
    )
    _check_depth(value, DEEPEST)
    if canonical_json(value) != data:
        raise ValueError("its bytes are not the canonical form of its values")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int:
    number = int(digits) if len(digits) <= _LONGEST_NUMBER else LARGEST_INTEGER + 1
    if abs(number) > LARGEST_INTEGER:
        raise ValueError("an integer of more than 64 bits")
    return number


def _float(digits: str) -> float:
    number = float(digits) if len(digits) <= _LONGEST_NUMBER else math.inf
    if not math.isfinite(number):
        raise ValueError("a number that no 64-bit float is near")
    return number


def _check_depth(value: Any, left: int) -> None:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if left == 0 and inner:
        raise ValueError(f"nested more than {DEEPEST} deep")
    for each in inner:
        _check_depth(each, left - 1)

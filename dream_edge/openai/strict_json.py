"""JSON from a stranger: one object, of bounded depth, with text that can be written again."""

from __future__ import annotations

from typing import Any

from dream_edge_runtime.files.json import parse_json_object

from .errors import RequestRefused

DEEPEST = 16


def parse_body(body: bytes) -> dict[str, Any]:
    """The object in `body`. NaN, infinities, repeated keys, lone surrogates and deep nesting are refused.

    Raises:
        RequestRefused: naming what is wrong.
    """
    try:
        value = parse_json_object(body)
    except ValueError as error:
        raise RequestRefused(f"the body is {error}.", code="invalid_json") from None
    open_values: list[tuple[Any, int]] = [(value, 1)]
    while open_values:
        part, depth = open_values.pop()
        if depth > DEEPEST:
            raise RequestRefused(f"the body is nested more than {DEEPEST} deep.", code="invalid_json")
        if isinstance(part, dict):
            part |= {key: _number(each) for key, each in part.items()}
            open_values += [(each, depth + 1) for pair in part.items() for each in pair]
        elif isinstance(part, list):
            part[:] = map(_number, part)
            open_values += [(each, depth + 1) for each in part]
        elif isinstance(part, str) and not _is_text(part):
            raise RequestRefused("the body holds a lone surrogate (\\ud800 to \\udfff).", code="invalid_json")
        elif isinstance(part, float) and part in (float("inf"), float("-inf")):
            raise RequestRefused("the body holds a number that is too large.", code="invalid_json")
    return value


def _number(value: Any) -> Any:
    """1.0 is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

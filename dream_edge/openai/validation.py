"""Read a body from a stranger, and tell its sender what does not fit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dream_edge_runtime.files.json import parse_json_object

from .errors import RequestRefused

_DEEPEST = 64
_MEMBER = re.compile(r"str|constrained-str|(list|dict|literal|function-\w+)\[.*\]|[A-Z]\w*")
"""What pydantic calls the members of a union, in the path to a field."""
_GRAMMAR = "grammars are not known; json_schema, regex and choices are"
_REASONS = {
    "functions": "give tools",
    "function_call": "give tool_choice",
    "grammar": _GRAMMAR,
    "guided_grammar": _GRAMMAR,
    "previous_response_id": "nothing is kept here; give the whole conversation as input",
    "conversation": "nothing is kept here; give all of it as input",
    "thread": "nothing is kept here; give the whole conversation as messages",
    "background": "an answer is given at once, or as a stream",
    "truncation": "nothing is left out of what is given",
    "logprobs": "tokens are not drawn from left to right; those of each step are with chat completions",
    "best_of": "all texts are given: ask for n",
}
"""Why fields of OpenAI's that clients do send are not here."""


def parse_body(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; 1.0 becomes 1, as they are one number in JSON.

    Raises:
        RequestRefused: it says what is wrong: bad JSON, a key twice, NaN, deep nesting, half a character.
    """
    try:
        value = parse_json_object(body, deepest=_DEEPEST)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        half = "the body holds half a character (a lone surrogate, \\ud800 to \\udfff). Send both halves, or neither."
        raise RequestRefused(half, code="invalid_json") from None
    except ValueError as error:
        raise RequestRefused(f"the body cannot be read: {error}.", code="invalid_json") from None
    return {name: _with_integers(part) for name, part in value.items()}


def _with_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_integers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_integers(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_model(named: str | None, served: str) -> None:
    """Refuse a request that names another model than the one `served`.

    Raises:
        RequestRefused: 404.
    """
    if named is not None and named != served:
        message = f"there is no model {named!r:.120} here. Leave `model` out, or name {served!r}."
        raise RequestRefused(message, status=404, param="model", code="model_not_found")


def explain(errors: Sequence[Mapping[str, Any]]) -> RequestRefused:
    """Turn the most telling of pydantic's `errors` into words for the client."""
    error = max(errors, key=_weigh)
    path, message, code = _path(error), str(error["msg"]).removeprefix("Value error, "), "invalid_value"
    place = ".".join(path)
    if not path:
        return RequestRefused("the body is missing." if error["type"] == "missing" else f"{message}.", code=code)
    if path[0] in _REASONS:
        message, code = f"{place}: {_REASONS[path[0]]}. Leave it out.", "unsupported_field"
    elif error["type"] == "extra_forbidden":
        message = f"there is no field {place!r:.120}: leave it out. /openapi.json lists those there are."
        code = "unknown_field"
    elif error["type"] == "missing":
        message, code = f"{place} is missing.", "missing_field"
    else:
        message = f"{place}: {message}."
    return RequestRefused(message, param=place, code=code)


def _weigh(error: Mapping[str, Any]) -> tuple[int, bool, bool]:
    """How much `error` tells: the member of a union that was meant gets furthest, and its fields have known names."""
    kind = error["type"]
    return len(_path(error)), kind not in ("missing", "extra_forbidden"), not kind.endswith("_type")


def _path(error: Mapping[str, Any]) -> list[str]:
    """The path to a field, without what pydantic calls the members of a union."""
    path = [str(part) for part in error["loc"] if part != "body"]
    if error["type"] == "extra_forbidden":  # its last part is the client's own word
        return [*(part for part in path[:-1] if not _MEMBER.fullmatch(part)), path[-1]]
    return [part for part in path if not _MEMBER.fullmatch(part)]

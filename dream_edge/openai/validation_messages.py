"""What a client is told of a body that does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import RequestRefused

_MEMBER = re.compile(r"str|constrained-str|list\[.*\]|[A-Z]\w*")
"""What pydantic calls the members of a union, in the path to a field."""
_NO_TOOLS = "this model calls no tools"
_REASONS = {
    "tools": _NO_TOOLS,
    "tool_choice": _NO_TOOLS,
    "parallel_tool_calls": _NO_TOOLS,
    "functions": _NO_TOOLS,
    "function_call": _NO_TOOLS,
    "response_format": "only text can be promised",
    "logprobs": "there are none, since tokens are not drawn from left to right; diffusing streams have include_cells",
    "top_logprobs": "there are none; POST /v1/alternatives has those of one place",
    "best_of": "all texts are given: ask for n",
    "frequency_penalty": "there is no penalty to set",
    "presence_penalty": "there is no penalty to set",
}
"""Why fields of OpenAI's that clients do send are not here."""


def check_model(named: str | None, served: str) -> None:
    """Raises RequestRefused where a request names another model than the one `served`."""
    if named is not None and named != served:
        message = f"there is no model {named!r:.120} here. Leave `model` out, or name {served!r}."
        raise RequestRefused(message, status=404, param="model", code="model_not_found")


def refusal(errors: Sequence[Mapping[str, Any]]) -> RequestRefused:
    """The most telling of pydantic's `errors`, as a client should read it."""
    error = max(errors, key=lambda each: (len(_field(each)), not each["type"].endswith("_type")))
    place = ".".join(_field(error))
    message = str(error["msg"]).removeprefix("Value error, ")
    if not place:
        return RequestRefused(
            "the body is missing." if error["type"] == "missing" else f"{message}.", code="invalid_value"
        )
    reason = _REASONS.get(_field(error)[0])
    if reason is not None:
        return RequestRefused(f"{place}: {reason}. Leave it out.", param=place, code="unsupported_field")
    if error["type"] == "extra_forbidden":
        message = f"there is no field {place!r:.120}: leave it out. /openapi.json lists those there are."
        return RequestRefused(message, param=place, code="unknown_field")
    if error["type"] == "missing":
        return RequestRefused(f"{place} is missing.", param=place, code="missing_field")
    return RequestRefused(f"{place}: {message}.", param=place, code="invalid_value")


def _field(error: Mapping[str, Any]) -> list[str]:
    """The path to a field, without what pydantic calls the members of a union."""
    path = [str(part) for part in error["loc"] if part != "body"]
    if error["type"] == "extra_forbidden":  # its last part is the client's own word
        return [*(part for part in path[:-1] if not _MEMBER.fullmatch(part)), path[-1]]
    return [part for part in path if not _MEMBER.fullmatch(part)]

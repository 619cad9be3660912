"""What /openapi.json says of answers; of requests their models say it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from dream_edge.openai.fields import UNUSED_FIELDS

DESCRIPTION = (
    "A Dream, the diffusion language model, with OpenAI's API. `stream` adds to the text from left to right; with "
    "`diffusing` each chunk replaces the text so far, masks included. `diffusion` in an answer tells steps, forward "
    "passes and seconds. Accepted and without effect, which `diffusion.ignored` says: "
    + ", ".join(sorted(UNUSED_FIELDS))
)
_REFUSALS = {
    400: "Something in the request does not fit; `param` names it.",
    401: "The API key is missing or wrong.",
    403: "A web page of another origin asked.",
    404: "There is no such model or route.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    421: "The Host header names somebody else.",
    429: "The queue is full; Retry-After says when to ask again.",
    500: "The answer could not be computed.",
    503: "The model is being loaded, or the server is shutting down.",
}


class ErrorDetail(BaseModel):
    """What has gone wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """OpenAI's envelope."""

    error: ErrorDetail


class TypedErrorDetail(BaseModel):
    """What has gone wrong."""

    type: str
    message: str


class TypedErrorReply(BaseModel):
    """Anthropic's envelope."""

    type: Literal["error"]
    error: TypedErrorDetail


def describe(
    summary: str,
    *,
    streams: bool = False,
    media_type: str = "application/json",
    refusal: type[BaseModel] = ErrorReply,
) -> dict[str, Any]:
    """Keywords of a route."""
    content: dict[str, Any] = {media_type: {}}
    if streams:
        content["text/event-stream"] = {}
    refusals = {status: {"model": refusal, "description": text} for status, text in _REFUSALS.items()}
    return {
        "summary": summary,
        "response_model": None,
        "responses": {200: {"description": summary, "content": content}, **refusals},
    }

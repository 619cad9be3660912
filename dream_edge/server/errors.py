"""Refusals that only a server has, and how any of them becomes a response."""

from __future__ import annotations

from starlette.responses import JSONResponse

from dream_edge.openai.errors import RequestRefused
from dream_edge.openai.messages_api import tell_refusal


class QueueFull(RequestRefused):
    def __init__(self, waiting: int, seconds: int) -> None:
        super().__init__(
            f"{waiting} requests are waiting already. Ask again in {seconds} s.",
            status=429,
            code="queue_full",
            headers={"Retry-After": str(seconds)},
        )


class WrongKey(RequestRefused):
    def __init__(self) -> None:
        message = (
            "the API key is missing or wrong. Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`; a browser "
            "asks for it."
        )
        super().__init__(message, status=401, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


class NotLoaded(RequestRefused):
    def __init__(self) -> None:
        super().__init__(
            "the model is being loaded. Ask again in a few seconds; /health says when it is ready.",
            status=503,
            code="loading",
            headers={"Retry-After": "2"},
        )


class ShuttingDown(RequestRefused):
    def __init__(self) -> None:
        super().__init__("the server is shutting down.", status=503, code="shutting_down")


def respond(refused: RequestRefused, path: str) -> JSONResponse:
    """The response that tells a client of it, in the form of the API that has `path`."""
    body = tell_refusal(refused) if path.startswith("/v1/messages") else refused.body()
    response = JSONResponse(body, refused.status, refused.headers)
    if isinstance(refused, WrongKey):  # in a header of its own, or Chromium does not see it
        response.headers.append("WWW-Authenticate", 'Basic realm="dream-edge", charset="UTF-8"')
    return response

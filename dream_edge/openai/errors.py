"""What a client can be told has gone wrong, in OpenAI's envelope."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

from dream_edge_runtime.errors import CanvasTooLong, DreamEdgeError, InvalidOption, PromptError, UnknownOption

log = logging.getLogger("dream_edge.server")

_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class RequestRefused(DreamEdgeError, ValueError):
    """A request that gets an error instead of an answer.

    Attributes:
        status: of HTTP.
        param: the field it is about.
        code: a short name of the reason, for programs.
        headers: that the response carries.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})

    @classmethod
    def of(cls, error: Exception) -> RequestRefused:
        """The refusal that `error` means.

        Of one that nobody foresaw the log gets the kind and the place, but not the message, which may quote text.
        """
        if not isinstance(error, DreamEdgeError):
            log.error("failed", extra={"error": type(error).__name__, "where": place_of(error)})
            message = "the answer could not be computed; the server's log says why."
            return cls(message, status=500, code="internal")
        if isinstance(error, RequestRefused):
            return error
        if isinstance(error, CanvasTooLong):
            message = (
                f"what is given and what is asked for make {error.length} tokens; the model's context is "
                f"{error.context}. Give less, or lower max_tokens."
            )
            return cls(message, code="context_length_exceeded")
        if isinstance(error, InvalidOption | UnknownOption):
            return cls(str(error), param=getattr(error, "name", None), code="invalid_value")
        if isinstance(error, PromptError):
            return cls(str(error), code="invalid_prompt")
        return cls(str(error), status=500, code="internal")

    def response(self) -> JSONResponse:
        return JSONResponse(envelope(self.status, str(self), self.param, self.code), self.status, self.headers)


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
        message = "the API key is missing or wrong. Send it as `Authorization: Bearer KEY`; a browser asks for it."
        super().__init__(message, status=401, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    def response(self) -> JSONResponse:
        response = super().response()
        # in a header of its own, or Chromium does not see it
        response.headers.append("WWW-Authenticate", 'Basic realm="dream-edge", charset="UTF-8"')
        return response


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


def place_of(error: BaseException) -> str:
    """File and line at which `error` was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"


def envelope(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """OpenAI's form of an error."""
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def phrase(status: int) -> str:
    """What HTTP calls `status`, for errors that come without a message."""
    return f"{HTTPStatus(status).phrase.lower()}."

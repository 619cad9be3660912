"""What a client can be told has gone wrong, in OpenAI's form."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from dream_edge_runtime.constraint.errors import ConstraintError
from dream_edge_runtime.errors import CanvasTooLong, DreamEdgeError, InvalidOption, PromptError, UnknownOption

log: logging.Logger = logging.getLogger(__name__)

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
        self.status: int = status
        self.param: str | None = param
        self.code: str | None = code
        self.headers: dict[str, str] = dict(headers or {})

    @classmethod
    def of(cls, error: Exception) -> RequestRefused:
        """The refusal that `error` means.

        An unforeseen error is logged with its kind and place, but without its message, which may quote text.
        """
        if not isinstance(error, DreamEdgeError):
            log.error("failed", extra={"error": type(error).__name__, "where": locate(error)})
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
        if isinstance(error, ConstraintError):
            return cls(str(error), code="invalid_constraint")
        if isinstance(error, PromptError):
            return cls(str(error), code="invalid_prompt")
        return cls(str(error), status=500, code="internal")

    def body(self) -> dict[str, Any]:
        """OpenAI's form of it."""
        kind = _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def locate(error: BaseException) -> str:
    """File and line at which `error` was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"

"""One request of a batch, answered as the server answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from dream_edge.openai import texts
from dream_edge.openai.errors import RequestRefused, envelope
from dream_edge.openai.requests import ChatRequest, CompletionRequest, FillRequest, FimRequest, Sampling
from dream_edge.openai.validation_messages import check_model, refusal
from dream_edge_runtime.errors import Cancelled, DreamEdgeError
from dream_edge_runtime.model import DreamModel

from .requests import Line

Json = dict[str, Any]
_Make = Callable[[DreamModel, Any, str], texts.Asked]

ROUTES: dict[str, tuple[type[BaseModel], _Make]] = {
    "/v1/chat/completions": (ChatRequest, texts.chat),
    "/v1/completions": (CompletionRequest, texts.completion),
    "/v1/fim/completions": (FimRequest, texts.fim),
    "/v1/fill": (FillRequest, texts.fill),
}


@dataclass(frozen=True)
class Answer:
    """What a request gets: a body in OpenAI's form, which says what is wrong unless the status (of HTTP) is 200."""

    number: int
    custom_id: str | None
    status: int
    body: Json


def answer(model: DreamModel, served: str, line: Line) -> Answer:
    """The answer to `line`; a request that cannot be met has its error there.

    Raises:
        Cancelled, and whatever is not the request's fault.
    """
    try:
        return Answer(line.number, line.custom_id, 200, _body(model, served, line))
    except RequestRefused as refused:
        error = envelope(refused.status, str(refused), refused.param, refused.code)
        return Answer(line.number, line.custom_id, refused.status, error)


def _body(model: DreamModel, served: str, line: Line) -> Json:
    if line.refused is not None:
        raise line.refused
    if line.url not in ROUTES:
        raise RequestRefused(f"there is no url {line.url!r:.80}. Urls: {', '.join(ROUTES)}.", status=404, param="url")
    kind, make = ROUTES[line.url]
    try:
        request = kind.model_validate(line.body)
    except ValidationError as error:
        raise refusal(error.errors()) from None
    assert isinstance(request, Sampling)
    if request.stream:
        raise RequestRefused("stream does not apply to a batch.", param="stream")
    check_model(request.model, served)
    try:
        made = make(model, request, served)
        return made.dialect.whole([made.finish(text.result()) for text in made.texts])
    except Cancelled:
        raise
    except DreamEdgeError as error:
        raise RequestRefused.of(error) from None

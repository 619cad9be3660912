"""One request of a batch, answered as the server answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dream_edge.openai.errors import RequestRefused
from dream_edge.openai.requests import ChatRequest, CompletionRequest, FillRequest, FimRequest, Sampling
from dream_edge.openai.texts import Job, prepare_chat, prepare_completion, prepare_fill, prepare_fim
from dream_edge.openai.validation import check_model, explain
from dream_edge_runtime.errors import Cancelled, DreamEdgeError
from dream_edge_runtime.model import DreamModel

from .requests import Line

ROUTES: dict[str, tuple[type[Sampling], Callable[[DreamModel, Any, str], Job]]] = {
    "/v1/chat/completions": (ChatRequest, prepare_chat),
    "/v1/completions": (CompletionRequest, prepare_completion),
    "/v1/fim/completions": (FimRequest, prepare_fim),
    "/v1/fill": (FillRequest, prepare_fill),
}


@dataclass(frozen=True)
class Answer:
    """What a request gets: a body in OpenAI's form, which says what is wrong unless the status (of HTTP) is 200."""

    number: int
    custom_id: str | None
    status: int
    body: dict[str, Any]


def answer(model: DreamModel, served: str, line: Line) -> Answer:
    """Answer `line`; a request that cannot be met gets its error.

    Raises:
        Cancelled, and whatever is not the request's fault.
    """
    try:
        return Answer(line.number, line.custom_id, 200, _compute(model, served, line))
    except Cancelled:
        raise
    except DreamEdgeError as error:
        refused = RequestRefused.of(error)
        return Answer(line.number, line.custom_id, refused.status, refused.body())


def _compute(model: DreamModel, served: str, line: Line) -> dict[str, Any]:
    if line.refused is not None:
        raise line.refused
    if line.url not in ROUTES:
        raise RequestRefused(f"there is no url {line.url!r:.80}. Urls: {', '.join(ROUTES)}.", status=404, param="url")
    kind, prepare = ROUTES[line.url]
    try:
        request = kind.model_validate(line.body)
    except ValidationError as error:
        raise explain(error.errors()) from None
    if request.stream:
        raise RequestRefused("stream does not apply to a batch.", param="stream")
    check_model(request.model, served)
    job = prepare(model, request, served)
    return job.format.whole([job.finish(index, text.denoising.result()) for index, text in enumerate(job.texts)])

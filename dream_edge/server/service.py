"""From checked requests to HTTP: a job for the engine, then one JSON object, or server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from dream_edge.openai.alternatives import Alternatives
from dream_edge.openai.answer import Said
from dream_edge.openai.errors import RequestRefused
from dream_edge.openai.requests import AlternativesRequest, Sampling
from dream_edge.openai.response_formats import FinishedText, describe_step
from dream_edge.openai.text_stream import StableText
from dream_edge.openai.texts import Job
from dream_edge.openai.translated import TranslatedRequest
from dream_edge.openai.validation import check_model
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.generation.results import Generation
from dream_edge_runtime.model import DreamModel

from .engine import Engine, QueuedJob
from .metrics import Metrics

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_LONGEST_TOKEN = 256  # bytes of a body that one token may take

log: logging.Logger = logging.getLogger("dream_edge.server")

Body = TypeVar("Body", bound=Sampling | TranslatedRequest | AlternativesRequest)
Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class Service:
    """Answers requests with what the engine makes of them.

    Attributes:
        served: the name of the model, the only one that requests may name.
    """

    engine: Engine
    metrics: Metrics
    idle_seconds: float
    served: str
    started: int = field(default_factory=lambda: int(time.time()))

    @property
    def card(self) -> dict[str, Any]:
        """The model, as OpenAI lists models."""
        return {"id": self.served, "object": "model", "created": self.started, "owned_by": "dream-edge"}

    async def answer(self, request: Request, body: Body, prepare: Callable[[DreamModel, Body, str], Job]) -> Response:
        """Compute what `prepare` makes of `body`.

        Raises:
            RequestRefused: the queue is full, or the model is not there.
            DreamEdgeError: what `prepare` or the engine raise.
        """
        job = await self._prepare(request, body, prepare)
        queued = QueuedJob([text.denoising for text in job.texts], job.cancel)
        self.engine.submit(queued)
        if job.stream:
            stream = self._stream(request, job, queued)
            return StreamingResponse(stream, media_type="text/event-stream", headers=_HEADERS)
        finished = list[FinishedText]()
        async with self._watch(request, queued):
            async for event in queued.events(self.idle_seconds):
                if event is not None and isinstance(event[1], Generation):
                    finished.append(self._finish(job, queued, event[0], event[1]))
        return JSONResponse(job.format.whole(finished), headers=_HEADERS)

    async def find_alternatives(self, request: Request, body: AlternativesRequest) -> Response:
        """The likeliest tokens in one place. Raises as `answer` does."""
        looked = await self._prepare(request, body, lambda model, body, _: Alternatives(model, body))
        queued = QueuedJob([looked.text], looked.cancel)
        self.engine.submit(queued)
        async with self._watch(request, queued):
            async for _ in queued.events(self.idle_seconds):
                pass
        return JSONResponse({"alternatives": looked.found}, headers=_HEADERS)

    async def count_tokens(
        self, request: Request, body: Body, prepare: Callable[[DreamModel, Body, str], Job]
    ) -> Response:
        """How many tokens a text is given, as Anthropic tells it. Raises as `answer` does."""
        job = await self._prepare(request, body, prepare)
        return JSONResponse({"input_tokens": job.texts[0].denoising.prompt_tokens}, headers=_HEADERS)

    async def _prepare(
        self, request: Request, body: Body, prepare: Callable[[DreamModel, Body, str], Prepared]
    ) -> Prepared:
        check_model(body.model, self.served)
        model = self.engine.model
        context = model.context or model.config.context
        if len(await request.body()) > context * _LONGEST_TOKEN:  # refused before it is tokenized
            message = f"this is far more text than the model's context of {context} tokens holds. Give less."
            raise RequestRefused(message, code="context_length_exceeded")
        return await asyncio.to_thread(prepare, model, body, self.served)

    async def _stream(self, request: Request, job: Job, queued: QueuedJob) -> AsyncIterator[bytes]:
        try:
            async with self._watch(request, queued):
                async for line in self._lines(job, queued):
                    yield line
        except Cancelled:
            return
        except Exception as error:
            yield _event(job.format.failure(RequestRefused.of(error)))
        yield job.format.last_line

    async def _lines(self, job: Job, queued: QueuedJob) -> AsyncIterator[bytes]:
        finished = list[FinishedText]()
        follower: StableText | None = None
        async for event in queued.events(self.idle_seconds):
            if event is None:
                yield b": still here\n\n"
                continue
            index, what = event
            before = job.texts[index].before
            if follower is None:
                follower, listener = job.follow(), job.listen()
                yield _events(job.format.opening(index, job.texts[index].denoising.prompt_tokens))
                if before and not job.diffusing:
                    yield _events(job.format.chunk(index, Said(before)))
            if isinstance(what, Generation):
                finished.append(self._finish(job, queued, index, what))
                rest = finished[-1].said if job.diffusing else listener.finish(follower.finish(what))
                yield _events(job.format.closing(index, rest, finished[-1]))
                follower = None
            elif job.diffusing:
                cells = follower.cells(what) if job.shows.include_cells else None
                said = job.reader.read(follower.so_far(what), complete=False)
                said = replace(said, content=before + said.content)
                yield _events(job.format.chunk(index, said, describe_step(what, cells)))
            elif job.shows.whole_blocks and not what.ends_block:
                continue
            elif said := listener.advance(follower.advance(what)):
                yield _events(job.format.chunk(index, said))
        if job.shows.include_usage:
            yield _events(job.format.usage(finished))

    def _finish(self, job: Job, queued: QueuedJob, index: int, generation: Generation) -> FinishedText:
        finished = job.finish(index, generation)
        self.metrics.count_text(generation)
        log.info(
            "generated",
            extra={
                "prompt_tokens": generation.prompt_tokens,
                "cached_tokens": generation.cached_tokens,
                "new_tokens": generation.new_tokens,
                "steps": generation.steps,
                "passes": generation.passes,
                "seconds": round(generation.seconds, 4),
                "queued_seconds": round(queued.queued_seconds, 4),
                "finish": finished.reason,
                "streamed": job.stream,
            },
        )
        return finished

    @asynccontextmanager
    async def _watch(self, request: Request, queued: QueuedJob) -> AsyncIterator[None]:
        """While the body runs, a client that leaves takes its job with it; so does the end of the body."""
        watcher = asyncio.create_task(self._withdraw_when_gone(request, queued))
        try:
            yield
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
            self.engine.withdraw(queued)
            self.metrics.count_wait(queued.queued_seconds)

    async def _withdraw_when_gone(self, request: Request, queued: QueuedJob) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.metrics.count_disconnect()
        self.engine.withdraw(queued)


def _events(events: Iterable[dict[str, Any]]) -> bytes:
    """Server-sent events; one whose data have a type is named by it."""
    return b"".join(map(_event, events))


def _event(data: dict[str, Any]) -> bytes:
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()

"""From the events of a job to HTTP: one JSON object, or server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from dream_edge.openai.alternatives import Alternatives
from dream_edge.openai.errors import RequestRefused, envelope
from dream_edge.openai.response_formats import Finished, under_way
from dream_edge.openai.text_stream import StableText
from dream_edge.openai.texts import Asked
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.generation.results import Generation

from .engine import Engine, Job
from .metrics import Metrics

CLIENT_GONE = 499  # nginx' number for it; nobody sees the response, but logs and metrics count it
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

log = logging.getLogger("dream_edge.server")


@dataclass(frozen=True)
class Replies:
    """Answers requests with what the engine makes of them."""

    engine: Engine
    metrics: Metrics
    idle_seconds: float

    async def answer(self, request: Request, asked: Asked) -> Response:
        """Raises RequestRefused: the queue is full, or the model is not there."""
        job = Job(asked.texts, asked.cancel)
        self.engine.submit(job)
        if asked.stream:
            return StreamingResponse(
                self._stream(request, asked, job), media_type="text/event-stream", headers=_HEADERS
            )
        try:
            finished = await self._finished(request, asked, job)
        except Cancelled:
            return Response(status_code=CLIENT_GONE)
        except Exception as error:
            raise RequestRefused.of(error) from None
        return JSONResponse(asked.dialect.whole(finished), headers=_HEADERS)

    async def alternatives(self, request: Request, looked: Alternatives) -> Response:
        """Raises RequestRefused as `answer` does."""
        job = Job([looked.text], looked.cancel)
        self.engine.submit(job)
        try:
            async with self._watched(request, job):
                async for _ in job.events(self.idle_seconds):
                    pass
        except Cancelled:
            return Response(status_code=CLIENT_GONE)
        except Exception as error:
            raise RequestRefused.of(error) from None
        return JSONResponse({"alternatives": looked.found}, headers=_HEADERS)

    async def _finished(self, request: Request, asked: Asked, job: Job) -> list[Finished]:
        found = []
        async with self._watched(request, job):
            async for event in job.events(self.idle_seconds):
                if event is not None and isinstance(event[1], Generation):
                    found.append(self._finish(asked, job, event[1]))
        return found

    async def _stream(self, request: Request, asked: Asked, job: Job) -> AsyncIterator[bytes]:
        try:
            async with self._watched(request, job):
                async for line in self._lines(asked, job):
                    yield line
        except Cancelled:
            return
        except Exception as error:
            refused = RequestRefused.of(error)
            yield _event(envelope(refused.status, str(refused), refused.param, refused.code))
        yield asked.dialect.last_line

    async def _lines(self, asked: Asked, job: Job) -> AsyncIterator[bytes]:
        dialect, finished = asked.dialect, list[Finished]()
        follower: StableText | None = None
        async for event in job.events(self.idle_seconds):
            if event is None:
                yield b": still here\n\n"
                continue
            index, what = event
            if follower is None:
                follower = asked.follow()
                opening = dialect.opening(index)
                if opening is not None:
                    yield _event(opening)
                if asked.before and not asked.diffusing:
                    yield _event(dialect.chunk(index, asked.before))
            if not isinstance(what, Generation):
                if asked.diffusing:
                    cells = follower.cells(what) if asked.include_cells else None
                    text = asked.before + follower.so_far(what)
                    yield _event(dialect.chunk(index, text, under_way(what, cells)))
                elif piece := follower.advance(what):
                    yield _event(dialect.chunk(index, piece))
                continue
            finished.append(self._finish(asked, job, what))
            rest = finished[-1].text if asked.diffusing else follower.finish(what)
            yield _event(dialect.closing(index, rest, finished[-1]))
            follower = None
        if asked.include_usage and (chunk := dialect.usage(finished)) is not None:
            yield _event(chunk)

    def _finish(self, asked: Asked, job: Job, generation: Generation) -> Finished:
        finished = asked.finish(generation)
        self.metrics.generated(generation)
        log.info(
            "generated",
            extra={
                "prompt_tokens": generation.prompt_tokens,
                "new_tokens": generation.new_tokens,
                "steps": generation.steps,
                "passes": generation.passes,
                "seconds": round(generation.seconds, 4),
                "queued_seconds": round(job.queued_seconds, 4),
                "finish": finished.reason,
                "streamed": asked.stream,
            },
        )
        return finished

    @asynccontextmanager
    async def _watched(self, request: Request, job: Job) -> AsyncIterator[None]:
        """While the body runs, a client that goes takes its job with it; so does the end of the body."""
        watcher = asyncio.create_task(self._withdraw_when_gone(request, job))
        try:
            yield
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
            self.engine.withdraw(job)
            self.metrics.waited(job.queued_seconds)

    async def _withdraw_when_gone(self, request: Request, job: Job) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.metrics.left()
        self.engine.withdraw(job)


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"

"""The routes, put together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dream_edge.openai import texts
from dream_edge.openai.alternatives import Alternatives
from dream_edge.openai.errors import RequestRefused, envelope, phrase
from dream_edge.openai.requests import (
    AlternativesRequest,
    ChatRequest,
    CompletionRequest,
    FillRequest,
    FimRequest,
    InfillRequest,
    Sampling,
)
from dream_edge.openai.response_formats import nothing
from dream_edge.openai.strict_json import parse_body
from dream_edge.openai.validation_messages import check_model, refusal
from dream_edge_runtime.errors import DreamEdgeError
from dream_edge_runtime.model import DreamModel

from .engine import Engine
from .metrics import Metrics
from .middleware import Guard
from .openapi import DESCRIPTION, responses
from .page_files import INDEX, page_file
from .responses import CLIENT_GONE, Replies
from .settings import ServerSettings

log = logging.getLogger("dream_edge.server")

Body = TypeVar("Body", bound=BaseModel)
_LONGEST_TOKEN = 256  # bytes of a body that one token may take


def build_app(engine: Engine, served: str, settings: ServerSettings, version: str) -> FastAPI:
    """The ASGI application.

    Args:
        engine: not yet started; it starts and ends with the application.
        served: the name of the model in answers, and the only one requests may name.
    """
    metrics = Metrics(engine)
    replies = Replies(engine, metrics, settings.idle_seconds)
    loaded = int(time.time())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await asyncio.to_thread(engine.close, settings.shutdown_seconds)

    middleware = [Middleware(Logged, metrics=metrics), Middleware(Guard, settings=settings)]
    if settings.allowed_origins:
        middleware.insert(
            1,
            Middleware(
                CORSMiddleware,
                allow_origins=[*settings.allowed_origins],
                allow_methods=["GET", "POST"],
                allow_headers=["*"],  # OpenAI's client for browsers adds a dozen of its own
                expose_headers=["Retry-After"],
            ),
        )
    app = FastAPI(
        title="dream-edge",
        description=DESCRIPTION,
        version=version,
        lifespan=lifespan,
        middleware=middleware,
        docs_url=None,  # they would fetch scripts from elsewhere
        redoc_url=None,
        exception_handlers={
            RequestRefused: _on_refused,
            RequestValidationError: _on_invalid,
            HTTPException: _on_http_error,
        },
    )
    app.router.route_class = StrictRoute

    async def check_size(request: Request) -> None:
        """Refuses, before it is tokenized, a text of which no canvas could hold all."""
        context = engine.model.context or engine.model.config.context
        if len(await request.body()) > context * _LONGEST_TOKEN:
            message = f"this is far more text than the model's context of {context} tokens holds. Give less."
            raise RequestRefused(message, code="context_length_exceeded")

    async def answer(request: Request, body: Body, make: Callable[[DreamModel, Body, str], texts.Asked]) -> Response:
        check_model(body.model if isinstance(body, Sampling) else None, served)
        await check_size(request)
        try:
            found = await asyncio.to_thread(make, engine.model, body, served)
        except DreamEdgeError as error:
            raise RequestRefused.of(error) from None
        return await replies.answer(request, found)

    @app.post("/v1/chat/completions", **responses("An answer to a conversation.", streams=True))
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        return await answer(request, body, texts.chat)

    @app.post("/v1/completions", **responses("A text after a prompt, or between it and a suffix.", streams=True))
    async def completions(request: Request, body: CompletionRequest) -> Response:
        return await answer(request, body, texts.completion)

    @app.post("/v1/fim/completions", **responses("A text between two others.", streams=True))
    async def fim_completions(request: Request, body: FimRequest) -> Response:
        return await answer(request, body, texts.fim)

    @app.post("/infill", **responses("The same, for clients of llama.cpp.", streams=True))
    async def infill(request: Request, body: InfillRequest) -> Response:
        return JSONResponse(nothing(served)) if body.n_predict == 0 else await answer(request, body, texts.infill)

    @app.post("/v1/fill", **responses("A text with holes anywhere, or words to be rewritten.", streams=True))
    async def fill(request: Request, body: FillRequest) -> Response:
        return await answer(request, body, texts.fill)

    @app.post("/v1/alternatives", **responses("The likeliest tokens in one place of a text."))
    async def alternatives(request: Request, body: AlternativesRequest) -> Response:
        check_model(body.model, served)
        await check_size(request)
        try:
            looked = await asyncio.to_thread(Alternatives, engine.model, body)
        except DreamEdgeError as error:
            raise RequestRefused.of(error) from None
        return await replies.alternatives(request, looked)

    def card() -> dict[str, Any]:
        return {"id": served, "object": "model", "created": loaded, "owned_by": "dream-edge"}

    @app.get("/v1/models", **responses("The model."))
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [card()]})

    @app.get("/v1/models/{name:path}", **responses("The model."))
    async def model(name: str) -> Response:
        if not name:  # the list, with a slash at its end
            return await models()
        check_model(name, served)
        return JSONResponse(card())

    @app.get("/health", **responses("503 while the model is loaded; then 200, ready or busy."))
    async def health() -> Response:
        if engine.state != "ready":
            return JSONResponse({"status": engine.state, "waiting": 0}, 503)
        return JSONResponse({"status": "busy" if engine.is_busy else "ready", "waiting": engine.waiting})

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return page_file(INDEX)

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        return page_file(name)

    @app.get("/metrics", **responses("Counts, as Prometheus reads them.", media_type="text/plain"))
    async def counts() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


class StrictRequest(Request):
    """Reads bodies with `parse_body`."""

    async def json(self) -> Any:
        return parse_body(await self.body())


class StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            strictly = StrictRequest(request.scope, request.receive)
            await strictly.body()  # here, since FastAPI turns whatever it raises into "error parsing the body"
            return await handle(strictly)

        return strict


class Logged:
    """Counts and logs every request: route, status, seconds; never what it says."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn keeps the body back
        started, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "none")  # not the path: anybody can invent those
            self._metrics.answered(route, status)
            level = logging.DEBUG if status == CLIENT_GONE or route in ("/health", "/metrics") else logging.INFO
            seconds = round(time.perf_counter() - started, 4)
            log.log(level, "answered", extra={"route": route, "status": status, "seconds": seconds})


async def _on_refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return error.response()


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return refusal(error.errors()).response()


async def _on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = phrase(error.status_code)
    if error.status_code == 404:
        message = "there is nothing here. /openapi.json lists the routes; those of OpenAI's API begin with /v1."
    return JSONResponse(envelope(error.status_code, message), error.status_code, error.headers)

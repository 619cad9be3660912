"""The application, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from dream_edge.openai.errors import RequestRefused
from dream_edge.openai.validation import explain
from dream_edge_runtime.errors import Cancelled, DreamEdgeError

from .engine import Engine
from .errors import respond
from .metrics import Metrics
from .middleware import CLIENT_GONE, Cors, Guard, Logged
from .openapi import DESCRIPTION
from .routes import page, state, texts
from .service import Service
from .settings import ServerSettings


def build_app(engine: Engine, served: str, settings: ServerSettings, version: str) -> FastAPI:
    """The ASGI application.

    Args:
        engine: not yet started; it starts and ends with the application.
        served: the name of the model in answers, and the only one requests may name.
    """
    metrics = Metrics(engine)

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
                Cors,
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
            DreamEdgeError: _on_error,
            RequestValidationError: _on_invalid,
            HTTPException: _on_http_error,
        },
    )
    app.state.service = Service(engine, metrics, settings.idle_seconds, served)
    for router in (texts, state, page):
        app.include_router(router)
    return app


async def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, Cancelled):
        return Response(status_code=CLIENT_GONE)
    return respond(RequestRefused.of(error), request.url.path)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return respond(explain(error.errors()), request.url.path)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{error.detail.lower()}."
    if error.status_code == 404:
        message = "there is nothing here. /openapi.json lists the routes; those of OpenAI's API begin with /v1."
    refused = RequestRefused(message, status=error.status_code, headers=error.headers)
    return respond(refused, request.url.path)

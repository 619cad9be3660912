"""What every request passes: a log and counts, then checks of host, origin, key, kind, size and time of the body."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
import re
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dream_edge.openai.errors import RequestRefused

from .errors import WrongKey, respond
from .metrics import Metrics
from .settings import ServerSettings

CLIENT_GONE = 499  # nginx' number for it; nobody sees the response, but logs and metrics count it
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::\d{1,5})?")


log: logging.Logger = logging.getLogger("dream_edge.server")


class Logged:
    """ASGI middleware that counts and logs every request: route, status, seconds; never what it says."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn keeps the body back
        started, status = time.perf_counter(), 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            route = getattr(scope.get("route"), "path", "none")  # not the path: anybody can invent those
            self._metrics.count_answer(route, status)
            level = logging.DEBUG if status == CLIENT_GONE or route in ("/health", "/metrics") else logging.INFO
            seconds = round(time.perf_counter() - started, 4)
            log.log(level, "answered", extra={"route": route, "status": status, "seconds": seconds})


class Cors(CORSMiddleware):
    """CORS for allowed origins; these may also reach a machine of a private network from outside, if Chrome asks."""

    def preflight_response(self, request_headers: Headers) -> Response:
        asked = "access-control-request-private-network"
        others = Headers({name: value for name, value in request_headers.items() if name != asked})
        response = super().preflight_response(others)  # older versions know nothing of it, newer ones refuse it
        if asked in request_headers and response.status_code == 200:
            response.headers["Access-Control-Allow-Private-Network"] = "true"
        return response


class Guard:
    """ASGI middleware that refuses what may not be asked, before anybody reads it."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        started = False

        async def tracked(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check(scope, headers)
            await self._app(scope, self._bounded(receive, headers), tracked)
        except Exception as error:
            refused = RequestRefused.of(error)
            if started:
                raise
            await respond(refused, scope["path"])(scope, receive, tracked)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = self._check_host(headers)
        self._check_origin(scope, headers, host)
        self._check_key(headers)
        if scope["method"] == "POST" and _media_type(headers) != "application/json":
            raise RequestRefused("send the body as application/json.", status=415, code="unsupported_media_type")

    def _check_host(self, headers: Headers) -> str:
        named = headers.getlist("host")
        if len(named) != 1 or not (found := _HOST.fullmatch(named[0])):
            raise RequestRefused("the request needs one valid Host header.", code="invalid_host")
        allowed = self._settings.hosts
        if allowed is not None and found[1].strip("[]").lower() not in allowed:
            message = f"this server does not answer for the host {found[1]!r}. Start it with --allow-host {found[1]}."
            raise RequestRefused(message, status=421, code="foreign_host")
        return named[0].lower()

    def _check_origin(self, scope: Scope, headers: Headers, host: str) -> None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._settings.allowed_origins:
            return
        is_foreign = origin is not None and urlsplit(origin).netloc.lower() != host
        if is_foreign or (origin is None and site in ("cross-site", "same-site") and not _is_visit(scope, headers)):
            message = "web pages of other origins may not use this server. Start it with --allow-origin to let one in."
            raise RequestRefused(message, status=403, code="foreign_origin")

    def _check_key(self, headers: Headers) -> None:
        key = self._settings.api_key
        given = [_given_key(headers), headers.get("x-api-key", "")]
        if key is not None and not any(hmac.compare_digest(each.encode(), key.encode()) for each in given):
            raise WrongKey

    def _bounded(self, receive: Receive, headers: Headers) -> Receive:
        """`receive`, refusing bodies that are too large or too slow."""
        most = self._settings.body_bytes
        too_large = RequestRefused(f"the body has more than {most} bytes.", status=413, code="too_large")
        declared = headers.get("content-length", "0")
        if not declared.isascii() or not declared.isdigit() or int(declared) > most:
            raise too_large
        deadline = asyncio.get_running_loop().time() + self._settings.request_seconds
        size, complete = 0, False

        async def bounded() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()  # waits for the client to go
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise RequestRefused("the body did not come in time.", status=408, code="timeout") from None
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if size > most:
                    raise too_large
            return message

        return bounded


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_visit(scope: Scope, headers: Headers) -> bool:
    """Whether somebody follows a link to a page here, which shows them the page and tells the other site nothing."""
    return scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"


def _given_key(headers: Headers) -> str:
    """The key of `Authorization`: a bearer token, or the password of HTTP Basic, which browsers ask for."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""

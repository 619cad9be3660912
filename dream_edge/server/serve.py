"""Run the application with uvicorn, with the time-out for heads of requests that it has no setting for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dream_edge_runtime.errors import DreamEdgeError
from dream_edge_runtime.model import DreamModel

from .app import build_app
from .engine import Engine
from .settings import ServerSettings

_LARGEST_HEAD = 1 << 14
_BACKLOG = 256
_LAST_WORDS_SECONDS = 2  # for clients to hear that the server stops


class AddressInUse(DreamEdgeError, OSError):
    def __init__(self, host: str, port: int, why: str) -> None:
        super().__init__(f"cannot listen on {host}, port {port} ({why}). Name another with --port; 0 takes a free one.")


def serve(
    load: Callable[[], DreamModel],
    served: str,
    settings: ServerSettings,
    version: str,
    on_listening: Callable[[str, Callable[[], None]], None] = lambda _url, _stop: None,
) -> None:
    """Serve until the process is told to stop (SIGINT, SIGTERM); the requests under way may end.

    Args:
        load: gives the model, in another thread: the server answers that it is loading meanwhile.
        served: the model's name.
        on_listening: called with the address, before the model is loaded, and with a function that ends the serving
            from any thread.

    Raises:
        AddressInUse, and whatever `load` raises.
    """
    failures: list[BaseException] = []

    def stop() -> None:
        server.should_exit = True

    def fail(error: BaseException) -> None:
        failures.append(error)
        stop()

    engine = Engine(
        lambda: replace(load(), longest_answer=settings.max_tokens), settings.queue, fail, parallel=settings.parallel
    )
    config = uvicorn.Config(
        build_app(engine, served, settings, version),
        http=_protocol(settings.request_seconds),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=round(settings.idle_seconds),
        timeout_graceful_shutdown=round(settings.shutdown_seconds) + _LAST_WORDS_SECONDS,
        limit_concurrency=settings.connections,
        h11_max_incomplete_event_size=_LARGEST_HEAD,
    )
    server = _Server(config, engine, settings.shutdown_seconds)
    listener = listen(settings.host, settings.port)
    try:
        host, port = listener.getsockname()[:2]
        on_listening(f"http://{f'[{host}]' if ':' in host else host}:{port}", stop)
        server.run(sockets=[listener])
    finally:
        listener.close()
    if failures:
        raise failures[0]


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises AddressInUse."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressInUse(host, port, error.strerror or str(error)) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressInUse(host, port, error.strerror or str(error)) from None
    return listener


class _Server(uvicorn.Server):
    """Stops the engine at the signal, so that those who wait hear of it, and not after the last connection.

    A second Ctrl-C gives the requests under way no more time.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine, seconds: float) -> None:
        super().__init__(config)
        self._engine, self._seconds = engine, seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        closing = asyncio.create_task(asyncio.to_thread(self._engine.close, self._seconds))
        await super().shutdown(sockets)
        if self.force_exit:
            await asyncio.to_thread(self._engine.close, 0)
            if self.server_state.tasks:
                await asyncio.wait(self.server_state.tasks, timeout=_LAST_WORDS_SECONDS)
            await self.lifespan.shutdown()
        await closing


def _protocol(head_seconds: float) -> type[asyncio.Protocol]:
    class Impatient(H11Protocol):
        """Closes connections that take too long over the head of a request."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._stop_waiting()
            elif self._timer is None:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait(self) -> None:
            self._timer = self.loop.call_later(head_seconds, self.transport.close)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Impatient

"""What a server may be asked for, by whom, and how much of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dream_edge_runtime.errors import InvalidOption

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LONGEST_KEY = 4096


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Safe as it stands: this machine only, no key needed, no other web page allowed.

    Raises:
        InvalidOption: another address than this machine's without a key, or a number that makes no sense.
    """

    host: str = "127.0.0.1"
    """Where to listen. Anything but this machine's own address needs `api_key`."""
    port: int = 8080
    """0 = any that is free."""
    api_key: str | None = None
    """What every request must bring, as `Authorization: Bearer KEY` or as the password of HTTP Basic."""
    allowed_hosts: tuple[str, ...] = ()
    """More values of the Host header that are answered, without the port: the name of a proxy, say. A page on the web
    whose name is made to point here (DNS rebinding) is not among them."""
    allowed_origins: tuple[str, ...] = ()
    """Web pages of other origins (https://example.org) whose scripts may ask and read (CORS)."""
    parallel: int = 1
    """Requests computed at once."""
    queue: int = 16
    """Requests that wait while others are computed; one more is refused with 429."""
    max_tokens: int = 4096
    """Of an answer whose request names no length, where the model is block-causal: other answers have room for 128."""
    body_bytes: int = 4 << 20
    """The largest request."""
    connections: int = 256
    """Open at once."""
    request_seconds: float = 30.0
    """For a client to send one whole request."""
    idle_seconds: float = 15.0
    """That a connection without a request is kept; and between two keep-alive comments of a stream."""
    shutdown_seconds: float = 10.0
    """For the requests that are computed when the server is told to stop."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InvalidOption("port", self.port, "must lie in 0 to 65535")
        for name in ("parallel", "queue", "max_tokens", "body_bytes", "connections"):
            if (value := getattr(self, name)) < 1:
                raise InvalidOption(name, value, "must be at least 1")
        if self.api_key is not None and not re.fullmatch(rf"[!-~]{{1,{_LONGEST_KEY}}}", self.api_key):
            raise InvalidOption("api_key", "…", f"must be 1 to {_LONGEST_KEY} printable ASCII characters, no spaces")
        if self.api_key is None and self.host not in LOOPBACK:
            raise InvalidOption(
                "host", self.host, "lets other machines in: give a key (api_key, --api-key), or use 127.0.0.1"
            )
        for origin in self.allowed_origins:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin):  # editors have schemes of their own
                raise InvalidOption("allowed_origins", origin, "must be an origin such as https://example.org")

    @property
    def hosts(self) -> Sequence[str] | None:
        """Names that the Host header may have; None = any, since a key is asked for and the address is public."""
        if self.host in LOOPBACK or self.allowed_hosts:
            return (*LOOPBACK, self.host, *self.allowed_hosts)
        return None

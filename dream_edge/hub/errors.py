"""What can go wrong between here and a model hub."""

from __future__ import annotations

import os
from pathlib import Path

from dream_edge_runtime.errors import DreamEdgeError


class HubError(DreamEdgeError, OSError):
    """A model could not be had from the hub. The message says why, and what to do now."""

    def __init__(self, repository: object, why: str, remedy: str) -> None:
        super().__init__(f"{repository}: {why}. {remedy}")


class NotAModel(HubError, ValueError):
    """The name is not owner/name, or what it names is neither a checkpoint nor an artifact."""


class ModelNotFound(HubError, FileNotFoundError):
    """The hub has no such model or revision, or must not be asked and there is no copy here."""


class AccessDenied(HubError, PermissionError):
    """The model is gated, or the token does not open it."""


class HubUnreachable(HubError, ConnectionError):
    """The hub does not answer as a hub should, or the connection broke off. What arrived is kept: try again."""


_NOT_READ = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SETTINGS = "HF_ENDPOINT HTTPS_PROXY HTTP_PROXY ALL_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE".split()


def advise_to_retry() -> str:
    """What to do about a connection that fails: with the variables that are set and decide how it is made."""
    found = []
    for name, value in os.environ.items():
        if value and (name.upper() in _SETTINGS or (name in _NOT_READ and "SSL_CERT_FILE" not in os.environ)):
            note = ""
            if name in _NOT_READ:
                note = " (which is not read: SSL_CERT_FILE is)"
            elif name.startswith("SSL") and not Path(value).exists():
                note = f" (there is no {value})"
            elif value.lower().startswith("socks"):
                note = " (write socks5://, which needs `pip install socksio`)"
            found.append(name + note)
    settings = f", and what is set: {', '.join(found)}" if found else ""
    return f"Check the connection{settings}. Then run the same command again: files that have arrived are kept."

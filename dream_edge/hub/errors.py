"""What can go wrong between here and a model hub."""

from __future__ import annotations

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

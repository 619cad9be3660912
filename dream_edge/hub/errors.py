"""What can go wrong between here and a model hub, each with its remedy."""

from __future__ import annotations

from pathlib import Path

from dream_edge_runtime.errors import DreamEdgeError


class HubError(DreamEdgeError, OSError):
    """A model could not be had from the hub."""


class NotARepository(HubError, ValueError):
    """That is not owner/name."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not the name of a model on a hub. Write owner/name or owner/name@revision.")


class RepositoryNotFound(HubError, FileNotFoundError):
    """The hub has no such model, or does not show it."""

    def __init__(self, repository: object, endpoint: str) -> None:
        super().__init__(
            f"{repository}: there is no such directory here and no such model on {endpoint}. Check the name; for a "
            "private model, log in with `hf auth login` or set HF_TOKEN."
        )


class RepositoryClosed(HubError, PermissionError):
    """Gated, or the token does not open it."""

    def __init__(self, repository: object, endpoint: str, name: str) -> None:
        super().__init__(
            f"{repository}: {endpoint} does not let you in. Accept the model's terms at {endpoint}/{name} if it has "
            "some, then log in with `hf auth login` or set HF_TOKEN to a token that may read it."
        )


class RevisionNotFound(HubError, LookupError):
    """The model has no such branch, tag or commit."""

    def __init__(self, name: str, revision: str | None) -> None:
        super().__init__(
            f"{name} has no revision {revision}. Name a branch, a tag or a commit of it, or none for its newest."
        )


class NotCached(HubError, FileNotFoundError):
    """The hub must not be asked, and the cache does not hold the model."""

    def __init__(self, repository: object, cache: Path) -> None:
        super().__init__(
            f"{repository}: there is no such directory here and no complete copy in {cache}, and HF_HUB_OFFLINE "
            f"forbids asking the hub. Run `dream-edge pull {repository}` online first."
        )


class HubUnreachable(HubError, ConnectionError):
    """The hub does not answer, or not as a hub."""

    def __init__(self, repository: object, endpoint: str, why: str) -> None:
        super().__init__(
            f"{repository}: there is no such directory here, and {endpoint} does not answer as a hub should: {why}. "
            "Check the connection (and HF_ENDPOINT, if set) and run the same command again."
        )


class NoConnection(HubError, ConnectionError):
    """No connection can be made from here: a proxy or a certificate is wrong."""

    def __init__(self, repository: object, why: str) -> None:
        super().__init__(
            f"{repository}: there is no such directory here, and the hub cannot be asked: {why}. Check what "
            "the environment says in HTTPS_PROXY, ALL_PROXY (socks5:// needs `pip install socksio`) and SSL_CERT_FILE."
        )


class DownloadInterrupted(HubError, ConnectionError):
    """The connection broke off; the files that arrived are kept."""

    def __init__(self, repository: object, why: str) -> None:
        super().__init__(
            f"{repository}: the connection broke off ({why}). The files that have arrived are kept: run the same "
            "command again and it resumes with the others."
        )


class DamagedDownload(HubError):
    """A file has another digest than the hub lists."""

    def __init__(self, repository: object, file: str) -> None:
        super().__init__(
            f"{repository}: {file} arrived, but its bytes are not the ones that the hub lists. They were discarded: "
            "run the same command again."
        )


class NotADream(HubError, ValueError):
    """The repository is neither a checkpoint nor an artifact."""

    def __init__(self, repository: object, why: str) -> None:
        super().__init__(
            f"{repository}: {why}, so this is neither a Dream checkpoint nor an artifact; nothing was downloaded. Name "
            "a repository with config.json and *.safetensors, or one that holds what `dream-edge export` wrote."
        )

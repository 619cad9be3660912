"""Models by the name they have on a hub: "owner/name", or "owner/name@revision".

A copy in huggingface_hub's cache is used as it is, without asking the hub; `pull` asks, and downloads what is new.
Revisions are pinned to a commit before anything is downloaded, and only data is: never code, never pickles.
"""

from __future__ import annotations

from pathlib import Path

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import MissingExtra
from dream_edge_runtime.format.manifest import MANIFEST
from dream_edge_runtime.progress import OnProgress, silent

from .cache import Repository, advise_to_retry, cache_directory, find_cached, is_offline, source
from .errors import HubUnreachable, ModelNotFound, NotAModel
from .files import Kind

__all__ = ["Kind", "Repository", "find_cached", "find_or_download", "parse_repository", "pull", "source"]


def pull(repo: str, revision: str | None = None, *, progress: OnProgress = silent) -> Path:
    """Bring the newest state of a model into the cache, verify it, and return its directory.

    Args:
        repo: "owner/name", or "owner/name@revision".
        revision: a branch, a tag or a commit; None is the main branch.
        progress: called as bytes arrive, then as an artifact is read.

    Files that have arrived are kept when the connection breaks off: called again, it resumes with the next. Each is
    compared with the digest that the hub lists, those of an artifact with its manifest as well.

    Raises:
        HubError: it could not be had; `dream_edge.hub.errors` tells the cases apart.
        NotEnoughDisk: it does not fit the disk.
        NotWritable: the disk fails, or the cache is read-only.
        CorruptArtifact: what lies in the cache is damaged.
        MissingExtra: huggingface_hub is not installed.
    """
    repository = parse_repository(repo, revision)
    path = (find_cached(repository) if is_offline() else None) or _download(repository, None, progress)
    if (path / MANIFEST).is_file():
        Artifact.open(path).verify(progress)
    return path


def parse_repository(repo: str, revision: str | None = None) -> Repository:
    """The repository called `repo`, whose revision may be given apart. Raises NotAModel if none can have that name."""
    text = repo if revision is None else f"{repo}@{revision}"
    if (repository := Repository.parse(text)) is None:
        why = "this is not the name of a model on a hub"
        raise NotAModel(text, why, "Write owner/name or owner/name@revision: a branch, a tag or a commit.")
    return repository


def find_or_download(repository: Repository, kind: Kind | None = None, *, progress: OnProgress = silent) -> Path:
    """The directory of `repository`: from the cache if it is complete there, else downloaded.

    Raises: as `pull`; UnsupportedArtifact, before anything is downloaded: it is the other kind than `kind`.
    """
    return find_cached(repository) or _download(repository, kind, progress)


def _download(repository: Repository, kind: Kind | None, progress: OnProgress) -> Path:
    if is_offline():
        why = f"there is no such directory here and no complete copy in {cache_directory()}, and HF_HUB_OFFLINE is set"
        raise ModelNotFound(repository, why, f"Run `dream-edge pull {repository}` online first.")
    try:
        from .network import download
    except ImportError:
        raise MissingExtra(f"There is no directory {repository} here; fetching a model of that name", "hub") from None
    except Exception as error:  # huggingface_hub reads the environment when it is imported
        raise HubUnreachable(repository, f"huggingface_hub does not start ({error})", advise_to_retry()) from error
    return download(repository, kind, progress)

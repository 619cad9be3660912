"""Models by the name they have on a hub: "owner/name", or "owner/name@revision".

A copy that lies in huggingface_hub's cache is used as it is, without asking the hub; `pull` asks, and fetches what is
new. Revisions are pinned to a commit before anything is fetched, and only data is: never code, never pickles.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import InvalidOption, MissingExtra
from dream_edge_runtime.format.manifest import MANIFEST

from .cache import Repository, cache_directory, cached, is_offline, source
from .errors import CacheTooSmall, NotARepository, NotCached
from .listing import Kind, Plan

if TYPE_CHECKING:
    from .transfer import Progress

__all__ = ["Kind", "Plan", "Repository", "cached", "fetch", "is_offline", "named", "obtain", "plan", "pull", "source"]


def pull(repo: str, revision: str | None = None) -> Path:
    """Bring the newest state of a model into the cache, verify it, and return its directory.

    Args:
        repo: "owner/name", or "owner/name@revision".
        revision: a branch, a tag or a commit; None is the main branch.

    What has arrived is kept when the connection breaks off: called again, it goes on from there. Each file is compared
    with the digest that the hub lists, those of an artifact with its manifest as well.

    Raises:
        HubError: it could not be had; `dream_edge.hub.errors` tells the cases apart.
        PickleCheckpoint: all it holds are pickled weights, which are never opened.
        CorruptArtifact: what lies in the cache is damaged.
        MissingExtra: huggingface_hub is not installed.
        InvalidOption: the revision is none, or contradicts the one in `repo`.
    """
    repository = named(repo, revision)
    path = (cached(repository) if is_offline() else None) or fetch(plan(repository))
    if (path / MANIFEST).is_file():
        Artifact.open(path).verify()
    return path


def named(repo: str, revision: str | None = None) -> Repository:
    """The repository called `repo`.

    Raises:
        NotARepository: that is no name of one.
        InvalidOption: the revision is none, or contradicts the one in `repo`.
    """
    repository = Repository.parse(repo)
    if repository is None:
        raise NotARepository(repo)
    if revision is None:
        return repository
    if repository.revision is not None:
        raise InvalidOption("revision", revision, f"contradicts the one in {repo}")
    with_revision = Repository.parse(f"{repo}@{revision}")
    if with_revision is None:
        raise InvalidOption("revision", revision, "must be a branch, a tag or a commit")
    return with_revision


def obtain(repository: Repository, kind: Kind) -> Path:
    """The directory of `repository`: from the cache if it is complete there, else fetched. Raises what `pull` does."""
    return cached(repository) or fetch(plan(repository, kind))


def plan(repository: Repository, kind: Kind | None = None) -> Plan:
    """Ask the hub what `repository` holds at which commit, and what of it must be fetched.

    Raises:
        NotCached: HF_HUB_OFFLINE is set.
        RepositoryNotFound: the hub has no such model, or does not show it.
        RepositoryClosed: its terms have not been accepted, or the token does not open it.
        RevisionNotFound: it has no such branch, tag or commit.
        HubUnreachable: the hub does not answer.
        NotADream: there is nothing in it that could be used.
        PickleCheckpoint: nor anything but pickled weights.
        UnsupportedArtifact: it is the other kind than `kind`.
        MissingExtra: huggingface_hub is not installed.
    """
    if is_offline():
        raise NotCached(repository, cache_directory())
    try:
        from .transfer import ask
    except ImportError:
        raise MissingExtra(f"There is no directory {repository} here; fetching a model of that name", "hub") from None
    return ask(repository, kind)


def fetch(plan: Plan, progress: Progress = lambda _: None) -> Path:
    """Fetch what is missing and return the directory.

    Raises:
        CacheTooSmall: before anything is fetched.
        DownloadInterrupted: the connection broke off; what arrived is kept.
        DamagedDownload: a file has another digest than the hub lists.
        CacheNotWritable: the disk fails, or the place is read-only.
    """
    from .transfer import fetch as bring

    if plan.to_fetch > plan.free:
        raise CacheTooSmall(plan.repository.directory.parent, plan.to_fetch, plan.free)
    bring(plan, progress)
    return plan.path

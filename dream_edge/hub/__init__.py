"""Models by the name they have on a hub: "owner/name", or "owner/name@revision".

A copy in huggingface_hub's cache is used as it is, without asking the hub; `pull` asks, and downloads what is new.
Revisions are pinned to a commit before anything is downloaded, and only data is: never code, never pickles.
"""

from __future__ import annotations

import logging
from pathlib import Path

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import InvalidOption, MissingExtra
from dream_edge_runtime.files.writing import check_disk, free_disk
from dream_edge_runtime.format.manifest import MANIFEST
from dream_edge_runtime.progress import OnProgress, silent
from dream_edge_runtime.units import size

from .cache import Repository, cache_directory, find_cached, is_offline, source
from .errors import NotARepository, NotCached
from .plan import Kind, Plan

__all__ = [
    "Kind",
    "Plan",
    "Repository",
    "download",
    "find_cached",
    "find_or_download",
    "is_offline",
    "parse_repository",
    "plan_download",
    "pull",
    "source",
]

_log = logging.getLogger(__name__)


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
        PickleCheckpoint: all it holds are pickled weights, which are never opened.
        NotEnoughDisk: it does not fit the disk.
        NotWritable: the disk fails, or the cache is read-only.
        CorruptArtifact: what lies in the cache is damaged.
        MissingExtra: huggingface_hub is not installed.
        InvalidOption: the revision has a bad form, or contradicts the one in `repo`.
    """
    repository = parse_repository(repo, revision)
    path = (find_cached(repository) if is_offline() else None) or download(plan_download(repository), progress=progress)
    if (path / MANIFEST).is_file():
        Artifact.open(path).verify(progress)
    return path


def parse_repository(repo: str, revision: str | None = None) -> Repository:
    """The repository called `repo`.

    Raises:
        NotARepository: no repository can have that name.
        InvalidOption: the revision has a bad form, or contradicts the one in `repo`.
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


def find_or_download(repository: Repository, kind: Kind | None = None, *, progress: OnProgress = silent) -> Path:
    """The directory of `repository`: from the cache if it is complete there, else downloaded. Raises as `pull` does."""
    return find_cached(repository) or download(plan_download(repository, kind), progress=progress)


def plan_download(repository: Repository, kind: Kind | None = None) -> Plan:
    """Ask the hub what `repository` holds at which commit, and which of its files are needed.

    Raises: as `pull`, before anything is downloaded; UnsupportedArtifact, it is the other kind than `kind`.
    """
    if is_offline():
        raise NotCached(repository, cache_directory())
    try:
        from .network import list_files
    except ImportError:
        raise MissingExtra(f"There is no directory {repository} here; fetching a model of that name", "hub") from None
    return Plan.of(repository, *list_files(repository), expected=kind)


def download(plan: Plan, *, progress: OnProgress = silent) -> Path:
    """Download what is missing and return the directory; what is going to be downloaded is logged. Raises as `pull`."""
    from .network import fetch_files

    _announce(plan)
    check_disk(plan.repository.directory, plan.to_fetch, "set HF_HUB_CACHE to a directory on a larger disk")
    fetch_files(plan, progress)
    return plan.path


def _announce(plan: Plan) -> None:
    """Log what is going to be downloaded, and the room there is for it."""
    found = f"{plan.repository}: {plan.kind} at commit {plan.commit[:12]}, {len(plan.files)} files, {size(plan.size)}"
    if not plan.missing:
        _log.info("%s; all of it is in the cache", found)
        return
    _log.info("%s", found)
    arrived = plan.size - plan.to_fetch
    kept = f" ({size(arrived)} are there already)" if arrived else ""
    into = f"into {plan.repository.directory}; {size(free_disk(plan.repository.directory))} are free"
    _log.info("Downloading %s%s %s", size(plan.to_fetch), kept, into)

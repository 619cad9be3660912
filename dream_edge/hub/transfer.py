"""Fetching files into the cache, piece by piece.

huggingface_hub knows the hub's interface, tokens and errors; its own download starts a file anew in every process,
which is hard on 5 GB shards and a cable that gets pulled. So a file grows here under a name that a later run finds
again, and takes its place in the cache when its digest is the one that the hub lists.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import httpx2
from filelock import FileLock
from huggingface_hub import HfApi, ModelInfo, get_session, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from dream_edge_runtime.errors import DreamEdgeError

from . import errors
from .cache import Repository, cache_directory, endpoint, is_commit
from .listing import HubFile, Kind, Plan, is_there, planned

Progress = Callable[[int], None]
"""Called with the bytes that have arrived since the last call; below 0 when some have to be fetched again."""

PAUSES = (1, 2, 4, 8, 15)
"""Seconds to wait after each failure in a row; a byte that arrives starts them over."""

_PATIENCE = 30.0  # seconds of silence
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHUNK = 1 << 20
_PASSING = {408, 425, 429, 500, 502, 503, 504}

_log = logging.getLogger(__name__)


def ask(repository: Repository, expected: Kind | None) -> Plan:
    """What the hub says that `repository` holds now. Errors as `dream_edge.hub.plan`."""
    with _reported(repository):
        try:
            info = _listing(repository)
        except (httpx2.TransportError, HfHubHTTPError) as error:
            if not _is_passing(error):
                raise
            time.sleep(PAUSES[0])
            info = _listing(repository)
    if not is_commit(info.sha or ""):
        raise errors.HubUnreachable(repository, endpoint(), "it does not say the commit")
    return planned(repository, str(info.sha), [_hub_file(repository, each) for each in info.siblings or ()], expected)


def _listing(repository: Repository) -> ModelInfo:
    try:
        return HfApi(endpoint=endpoint()).model_info(
            repository.name, revision=repository.revision, files_metadata=True, timeout=_PATIENCE
        )
    except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:  # not the answer of a hub
        raise errors.HubUnreachable(repository, endpoint(), f"its answer makes no sense ({_in_words(error)})") from None


def _hub_file(repository: Repository, file: RepoSibling) -> HubFile:
    digest = file.lfs.sha256 if file.lfs else file.blob_id
    if file.size is None or not digest or not _DIGEST.fullmatch(digest):
        raise errors.HubUnreachable(repository, endpoint(), f"it does not say size and digest of {file.rfilename!r}")
    return HubFile(file.rfilename, file.size, digest)


def fetch(plan: Plan, progress: Progress) -> None:
    """Bring every file of `plan` into the cache, and let its revision name this commit when all are there."""
    with _reported(plan.repository):
        (plan.repository.directory / "blobs").mkdir(parents=True, exist_ok=True)
        plan.path.mkdir(parents=True, exist_ok=True)
        for file in plan.missing:
            _fetch_file(plan, file, progress)
        reference = plan.repository.reference
        if reference is not None:
            reference.parent.mkdir(parents=True, exist_ok=True)
            fresh = reference.with_name(f"{reference.name}.{os.getpid()}.tmp")
            fresh.write_text(plan.commit, encoding="ascii")
            fresh.replace(reference)


def _fetch_file(plan: Plan, file: HubFile, progress: Progress) -> None:
    partial = plan.partial(file)
    blob = partial.with_name(file.digest)
    with FileLock(partial.with_suffix(".lock")):  # another process may be at the same file: then wait for it
        if not is_there(blob, file) and not is_there(plan.path / file.name, file):
            with partial.open("ab") as out:
                _complete(plan, file, out, progress)
            partial.replace(blob)
        _link(blob, plan.path / file.name)
    with suppress(OSError):
        partial.with_suffix(".lock").unlink()


def _link(blob: Path, name: Path) -> None:
    """Give `blob` its name in the snapshot: a relative link, or the file itself where links cannot be made."""
    if not blob.is_file():
        return  # a file that is its own name's
    try:
        if os.environ.get("HF_HUB_DISABLE_SYMLINKS", "").upper() in {"1", "ON", "YES", "TRUE"}:
            raise OSError
        name.unlink(missing_ok=True)  # a link whose file was removed
        name.symlink_to(Path("..", "..", "blobs", blob.name))
    except OSError:
        blob.replace(name)


def _complete(plan: Plan, file: HubFile, out: BinaryIO, progress: Progress) -> None:
    """Append to `out` what it lacks of `file`, through interruptions, and compare the digest."""
    digest = _digest_of(file, out)
    pauses = iter(PAUSES)
    while (before := out.tell()) < file.size:
        try:
            digest = _receive(plan, file, out, digest, progress)
            why = "it ended early"
        except (httpx2.TransportError, HfHubHTTPError) as error:
            if not _is_passing(error):
                raise
            why = _in_words(error)
        if out.tell() > before:
            pauses = iter(PAUSES)
        if out.tell() < file.size:
            pause = next(pauses, None)
            if pause is None:
                raise errors.DownloadInterrupted(plan.repository, file.name, why)
            _log.info("%s: %s; going on from byte %d in %d s", file.name, why, out.tell(), pause)
            time.sleep(pause)
    out.flush()
    os.fsync(out.fileno())
    if out.tell() != file.size or digest.hexdigest() != file.digest:
        progress(-out.tell())
        _empty(out)
        raise errors.DamagedDownload(plan.repository, file.name)


def _digest_of(file: HubFile, out: BinaryIO) -> Any:
    """The digest of what `out` holds already, to be updated; git's hash starts with a header."""
    digest = hashlib.sha256() if len(file.digest) == 64 else hashlib.sha1(f"blob {file.size}\0".encode())
    with Path(out.name).open("rb") as arrived:
        while chunk := arrived.read(_CHUNK):
            digest.update(chunk)
    return digest


def _receive(plan: Plan, file: HubFile, out: BinaryIO, digest: Any, progress: Progress) -> Any:
    """One request for the rest of `file`. The digest is updated, or a new one when the hub starts over."""
    headers = build_hf_headers(library_name="dream-edge") | {"Accept-Encoding": "identity"}
    if out.tell():
        headers["Range"] = f"bytes={out.tell()}-"
    url = hf_hub_url(plan.repository.name, file.name, revision=plan.commit, endpoint=endpoint())
    with get_session().stream("GET", url, headers=headers, timeout=_PATIENCE, follow_redirects=True) as response:
        hf_raise_for_status(response)
        if out.tell() and response.status_code != 206:
            progress(-out.tell())
            _empty(out)
            digest = _digest_of(file, out)
        for chunk in response.iter_bytes():  # as they come: none is lost when the next one does not
            out.write(chunk)
            digest.update(chunk)
            progress(len(chunk))
            if out.tell() > file.size:
                break
    return digest


def _empty(out: BinaryIO) -> None:
    out.seek(0)
    out.truncate()


def _is_passing(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    return error.response.status_code in _PASSING if isinstance(error, HfHubHTTPError) else True


def _in_words(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"it answered {error.response.status_code}"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@contextmanager
def _reported(repository: Repository) -> Iterator[None]:
    """Turn what huggingface_hub and the system raise into errors that say what to do."""
    hub = endpoint()
    try:
        yield
    except DreamEdgeError:
        raise
    except OfflineModeIsEnabled:
        raise errors.NotCached(repository, cache_directory()) from None
    except GatedRepoError:
        raise errors.RepositoryClosed(repository, hub, repository.name) from None
    except RepositoryNotFoundError:
        raise errors.RepositoryNotFound(repository, hub) from None
    except RevisionNotFoundError:
        raise errors.RevisionNotFound(repository.name, repository.revision) from None
    except HfHubHTTPError as error:
        if error.response.status_code in {401, 403}:
            raise errors.RepositoryClosed(repository, hub, repository.name) from None
        raise errors.HubUnreachable(repository, hub, _in_words(error)) from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise errors.HubUnreachable(repository, hub, _in_words(error)) from None
    except OSError as error:
        why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise errors.CacheNotWritable(cache_directory(), why) from error

"""What is asked of the hub and downloaded from it, by huggingface_hub: its interface, tokens, proxies and transfers.

It keeps every finished file. Resuming inside a file is left to it: over plain HTTP it resumes while the process lives,
and hf_xet fetches only the pieces that are missing; an interrupted run loses at most the files that were under way.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from huggingface_hub import HfApi, get_session, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm

from dream_edge_runtime.errors import DreamEdgeError, NotWritable
from dream_edge_runtime.files.writing import replace_file
from dream_edge_runtime.progress import Meter, OnProgress

from . import errors
from .cache import Repository, cache_directory, endpoint, is_commit
from .plan import HubFile, Plan

PAUSES = (1, 4, 15)
"""Seconds to wait after each failure that may pass; a file that arrives starts them over."""

_PATIENCE = 30.0  # seconds of silence
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_CHUNK = 1 << 20

_log = logging.getLogger(__name__)


def list_files(repository: Repository) -> tuple[str, list[HubFile]]:
    """The commit that the revision is now, and all files of it. Errors as `dream_edge.hub.plan_download`."""
    with _explained(repository):
        for pause in (PAUSES[0], None):
            try:
                info = HfApi(endpoint=endpoint()).model_info(
                    repository.name, revision=repository.revision, files_metadata=True, timeout=_PATIENCE
                )
                break
            except HfHubHTTPError as error:
                if pause is None or error.response.status_code not in _PASSING:
                    raise
                time.sleep(pause)
        if not is_commit(info.sha or ""):
            raise errors.HubUnreachable(repository, endpoint(), "it does not say the commit")
        return str(info.sha), [_file_of(repository, each) for each in info.siblings or ()]


def _file_of(repository: Repository, listed: Any) -> HubFile:
    digest = listed.lfs.sha256 if listed.lfs else listed.blob_id
    if listed.size is None or len(digest or "") not in (40, 64):
        raise errors.HubUnreachable(repository, endpoint(), f"it does not say size and digest of {listed.rfilename!r}")
    return HubFile(listed.rfilename, listed.size, digest)


def fetch_files(plan: Plan, progress: OnProgress) -> None:
    """Bring every file of `plan` into the cache, and let its revision name this commit when all are there."""
    with _explained(plan.repository, plan):
        missing = plan.missing
        pauses = iter(PAUSES)
        while plan.missing:
            before = plan.to_fetch
            try:
                _download(plan, progress)
            except Exception as error:
                if plan.to_fetch < before:
                    pauses = iter(PAUSES)
                pause = next(pauses, None) if _may_pass(error) else None
                if pause is None:
                    raise
                _log.info("%s: %s; trying again in %d s", plan.repository, _say(error), pause)
                time.sleep(pause)
        for file in missing:
            _check_digest(plan, file)
        reference = plan.repository.reference
        if reference is not None:
            reference.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(reference) as out:
                out.write(plan.commit.encode())


def _download(plan: Plan, progress: OnProgress) -> None:
    """Have huggingface_hub download in a thread of its own, and report from this one, which can be interrupted."""
    counter = _counter()
    meter = Meter(progress, f"downloading {plan.repository.name}", (total := plan.to_fetch), "bytes")
    with ThreadPoolExecutor(1) as pool, _quiet():
        work = pool.submit(
            snapshot_download,
            plan.repository.name,
            revision=plan.commit,
            cache_dir=cache_directory(),
            endpoint=endpoint(),
            library_name="dream-edge",
            allow_patterns=[file.name for file in plan.files],
            tqdm_class=counter,
        )
        try:
            while wait([work], timeout=0.1).not_done:
                meter.reach(min(total, counter.bytes_arrived()))
        finally:
            counter.stopped = True
        work.result()
    meter.reach(total)


def _counter() -> Any:
    """A class of progress bars that show nothing: they count bytes, and end the download when it is `stopped`."""

    class Counter(tqdm):  # type: ignore[misc]
        bars: list[Counter] = []  # noqa: RUF012 (of this download)
        stopped = False

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": True})
            self.count = 0
            if kwargs.get("unit") == "B":
                self.bars.append(self)

        def update(self, n: float | None = 1) -> None:
            if self.stopped:
                raise InterruptedError("the download was stopped")
            self.count += int(n or 0)

        @classmethod
        def bytes_arrived(cls) -> int:
            """What has been received is counted by one bar and what has been written by another."""
            return max((bar.count for bar in cls.bars), default=0)

    return Counter


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's warnings, which go to stderr: what matters is raised."""
    library = logging.getLogger("huggingface_hub")
    level = library.level
    library.setLevel(logging.ERROR)
    try:
        yield
    finally:
        library.setLevel(level)


def _check_digest(plan: Plan, file: HubFile) -> None:
    """Compare what arrived with what the hub lists; the library compares sizes only."""
    path = plan.path / file.name
    digest = hashlib.sha256() if len(file.digest) == 64 else hashlib.sha1(f"blob {file.size}\0".encode())
    with path.open("rb") as arrived:
        while chunk := arrived.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != file.digest:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise errors.DamagedDownload(plan.repository, file.name)


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING
    return not (isinstance(error, TypeError | ValueError) or _is_of_the_disk(error))


def _is_of_the_disk(error: Exception) -> bool:
    """Whether the system refused to write; errors of the network have no number, or are a ConnectionError."""
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError)


def _say(error: BaseException) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"it answered {error.response.status_code}"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@contextmanager
def _explained(repository: Repository, plan: Plan | None = None) -> Iterator[None]:
    """Turn what huggingface_hub and the system raise into errors that say what to do."""
    hub = endpoint()
    try:
        get_session()
    except Exception as error:  # of a proxy or a certificate: many libraries' errors
        raise errors.NoConnection(repository, _say(error)) from error
    try:
        yield
    except DreamEdgeError:
        raise
    except GatedRepoError:
        raise errors.RepositoryClosed(repository, hub, repository.name) from None
    except RepositoryNotFoundError:
        raise errors.RepositoryNotFound(repository, hub) from None
    except RevisionNotFoundError:
        raise errors.RevisionNotFound(repository.name, repository.revision) from None
    except Exception as error:  # httpx2's, hf_xet's, of an answer that is not a hub's
        if isinstance(error, HfHubHTTPError) and error.response.status_code in {401, 403}:
            raise errors.RepositoryClosed(repository, hub, repository.name) from None
        if isinstance(error, OSError) and _is_of_the_disk(error):
            remedy = "Make room, or set HF_HUB_CACHE to another directory."
            raise NotWritable(cache_directory(), error.strerror or str(error), remedy) from error
        if plan is not None:
            raise errors.DownloadInterrupted(repository, _say(error)) from error
        raise errors.HubUnreachable(repository, hub, _say(error)) from error

"""What is asked of the hub and downloaded from it, by huggingface_hub: its interface, tokens, proxies and transfers.

It keeps every finished file. Resuming inside a file is left to it: over plain HTTP it resumes while the process lives,
and hf_xet fetches only missing pieces; an interrupted run loses at most the files that were under way.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from huggingface_hub import HfApi, get_session, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from tqdm import tqdm

from dream_edge_runtime.errors import DreamEdgeError, NotWritable
from dream_edge_runtime.files.writing import replace_file
from dream_edge_runtime.progress import Meter, OnProgress

from . import errors
from .cache import Repository, cache_directory, endpoint, is_commit
from .plan import HubFile, Plan

_PATIENCE = 30.0  # seconds of silence


def list_files(repository: Repository) -> tuple[str, list[HubFile]]:
    """The commit that the revision is now, and all files of it. Raises as `dream_edge.hub.plan_download`."""
    with _explain_errors(repository):
        info = HfApi(endpoint=endpoint()).model_info(
            repository.name, revision=repository.revision, files_metadata=True, timeout=_PATIENCE
        )
        files = [
            HubFile(each.rfilename, each.size, each.lfs.sha256 if each.lfs else each.blob_id)  # type: ignore[arg-type]
            for each in info.siblings or ()
        ]
        unsaid = [file.name for file in files if file.size is None or len(file.digest or "") not in (40, 64)]
        if not is_commit(info.sha or "") or unsaid:
            what = f"size and digest of {unsaid[0]!r}" if unsaid else "the commit"
            raise errors.HubUnreachable(repository, endpoint(), f"it does not say {what}")
        return str(info.sha), files


def fetch_files(plan: Plan, progress: OnProgress) -> None:
    """Bring every file of `plan` into the cache, and let its revision name this commit when all are there."""
    with _explain_errors(plan.repository, plan):
        if missing := plan.missing:
            _download(plan, progress)
        for file in missing:
            _check_digest(plan, file)
        reference = plan.repository.reference
        if reference is not None:
            reference.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(reference) as out:
                out.write(plan.commit.encode())


def _download(plan: Plan, progress: OnProgress) -> None:
    """Have huggingface_hub download in a thread of its own, and report from this one, which can be interrupted."""

    class Counter(tqdm):  # type: ignore[misc]
        """Shows nothing: counts bytes, and ends the download once it is stopped."""

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

    meter = Meter(progress, f"downloading {plan.repository.name}", (total := plan.to_fetch), "bytes")
    with ThreadPoolExecutor(1) as pool, _silence_library():
        work = pool.submit(
            snapshot_download,
            plan.repository.name,
            revision=plan.commit,
            cache_dir=cache_directory(),
            endpoint=endpoint(),
            library_name="dream-edge",
            allow_patterns=[file.name for file in plan.files],
            tqdm_class=Counter,
        )
        try:
            while wait([work], timeout=0.1).not_done:
                # one bar counts what was received, another what was written
                meter.reach(min(total, max((bar.count for bar in Counter.bars), default=0)))
        finally:
            Counter.stopped = True
        work.result()
    meter.reach(total)


@contextmanager
def _silence_library() -> Iterator[None]:
    """Without huggingface_hub's warnings, which go to stderr: what matters is raised."""
    library = logging.getLogger("huggingface_hub")
    level = library.level
    library.setLevel(logging.ERROR)
    try:
        yield
    finally:
        library.setLevel(level)


def _check_digest(plan: Plan, file: HubFile) -> None:
    """Compare what arrived with what the hub lists; huggingface_hub compares sizes only."""
    path = plan.path / file.name
    digest = hashlib.sha256() if len(file.digest) == 64 else hashlib.sha1(f"blob {file.size}\0".encode())
    with path.open("rb") as arrived:
        while chunk := arrived.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != file.digest:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise errors.DamagedDownload(plan.repository, file.name)


@contextmanager
def _explain_errors(repository: Repository, plan: Plan | None = None) -> Iterator[None]:
    """Turn what huggingface_hub and the system raise into errors that say what to do."""
    hub = endpoint()
    try:
        get_session()
    except Exception as error:  # of a proxy or a certificate: many libraries' errors
        raise errors.NoConnection(repository, _describe(error)) from error
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
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            remedy = "Make room, or set HF_HUB_CACHE to another directory."
            raise NotWritable(cache_directory(), error.strerror or str(error), remedy) from error
        if plan is not None:
            raise errors.DownloadInterrupted(repository, _describe(error)) from error
        raise errors.HubUnreachable(repository, hub, _describe(error)) from error


def _describe(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"it answered {error.response.status_code}"
    return next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__

"""What is asked of the hub and downloaded from it, by huggingface_hub: its interface, tokens, proxies and transfers.

It keeps every finished file. Resuming inside a file is left to it: over plain HTTP it resumes while the process lives,
and hf_xet fetches only missing pieces; an interrupted run loses at most the files that were under way.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from tqdm import tqdm

from dream_edge_runtime.errors import DreamEdgeError, NotWritable
from dream_edge_runtime.files.writing import check_disk, free_disk, replace_file
from dream_edge_runtime.progress import Meter, OnProgress
from dream_edge_runtime.units import size

from .cache import Repository, advise_to_retry, cache_directory, endpoint, is_commit
from .errors import AccessDenied, HubError, HubUnreachable, ModelNotFound
from .files import HubFile, Kind, choose_files

_log = logging.getLogger(__name__)

_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def download(repository: Repository, kind: Kind | None, progress: OnProgress) -> Path:
    """Bring what is missing of the newest commit into the cache, say what that is, and return its directory.

    The revision names the commit only when all of it is there: until then the cache's older one stays in use.
    """
    with _explain_errors(repository):
        commit, listed = _list_files(repository)
    found, files = choose_files(repository, listed, kind)
    where = repository.directory
    path = where / "snapshots" / commit
    missing = [file for file in files if not file.is_at(path / file.name)]
    total = sum(file.size for file in files)
    to_fetch = sum(file.size for file in missing if not file.is_at(where / "blobs" / file.digest))
    there = "" if missing else "; all of it is in the cache"
    _log.info("%s: %s at commit %s, %d files, %s%s", repository, found, commit[:12], len(files), size(total), there)
    if missing:
        kept = f" ({size(total - to_fetch)} are there already)" if to_fetch < total else ""
        _log.info("Downloading %s%s into %s; %s are free", size(to_fetch), kept, where, size(free_disk(where)))
        check_disk(where, to_fetch, "set HF_HUB_CACHE to a directory on a larger disk")
    with _explain_errors(repository, writing=True):
        if missing:
            _fetch(repository, commit, files, to_fetch, progress)
        for file in missing:
            _check_digest(repository, path / file.name, file)
        if repository.reference is not None:
            repository.reference.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(repository.reference) as out:
                out.write(commit.encode())
    return path


def _list_files(repository: Repository) -> tuple[str, list[HubFile]]:
    """The commit that the revision is now, and all files of it."""
    hub = HfApi(endpoint=endpoint())
    info = hub.model_info(repository.name, revision=repository.revision, files_metadata=True, timeout=30)
    files = [
        HubFile(each.rfilename, each.size, each.lfs.sha256 if each.lfs else each.blob_id)  # type: ignore[arg-type]
        for each in info.siblings or ()
    ]
    if not is_commit(info.sha or "") or any(file.size is None or file.digest is None for file in files):
        raise ValueError("it does not say the commit, or the sizes and digests of the files")
    return str(info.sha), files


def _fetch(repository: Repository, commit: str, files: Sequence[HubFile], total: int, progress: OnProgress) -> None:
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

    meter = Meter(progress, f"downloading {repository.name}", total, "bytes")
    library = logging.getLogger("huggingface_hub")
    level = library.level
    library.setLevel(logging.ERROR)  # its warnings go to stderr; what matters is raised
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(
            snapshot_download,
            repository.name,
            revision=commit,
            cache_dir=cache_directory(),
            endpoint=endpoint(),
            library_name="dream-edge",
            allow_patterns=[file.name for file in files],
            tqdm_class=Counter,
        )
        try:
            while wait([work], timeout=0.1).not_done:
                # one bar counts what was received, another what was written
                meter.reach(min(total, max((bar.count for bar in Counter.bars), default=0)))
            work.result()
        finally:
            Counter.stopped = True
            library.setLevel(level)
    meter.reach(total)


def _check_digest(repository: Repository, path: Path, file: HubFile) -> None:
    """Compare what arrived with what the hub lists; huggingface_hub compares sizes only."""
    if not path.is_file():  # huggingface_hub returns what there is when the hub falls silent
        raise ConnectionError(f"{file.name} did not arrive")
    git = hashlib.sha1(f"blob {file.size}\0".encode())
    with path.open("rb") as arrived:
        digest = hashlib.file_digest(arrived, "sha256" if len(file.digest) == 64 else lambda: git)
    if digest.hexdigest() != file.digest:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        why = f"{file.name} arrived, but its bytes are not the ones that the hub lists"
        raise HubError(repository, why, "They were discarded: run the same command again.")


@contextmanager
def _explain_errors(repository: Repository, *, writing: bool = False) -> Iterator[None]:
    """Turn what huggingface_hub and the system raise into errors that say what to do."""
    try:
        yield
    except DreamEdgeError:
        raise
    except Exception as error:  # of huggingface_hub, httpx2, hf_xet, a proxy, a certificate, an odd answer
        raise _explain(error, repository, writing=writing) from error


def _explain(error: Exception, repository: Repository, *, writing: bool) -> HubError | NotWritable:
    hub = endpoint()
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    gated = isinstance(error, GatedRepoError)
    if isinstance(error, RepositoryNotFoundError) and not gated:
        why = f"there is no such directory here and no such model on {hub}"
        return ModelNotFound(repository, why, f"Check the name; for a private model, {_LOG_IN}.")
    if isinstance(error, RevisionNotFoundError):
        remedy = "Name a branch, a tag or a commit of the model, or none for its newest."
        return ModelNotFound(repository, f"the model has no revision {repository.revision}", remedy)
    if gated or status in {401, 403}:
        terms = f"Accept the model's terms at {hub}/{repository.name} if it has some, then {_LOG_IN}."
        return AccessDenied(repository, f"{hub} does not let you in", terms)
    is_here = writing or str(cache_directory().parent) in str(getattr(error, "filename", None))  # tokens lie beside it
    if is_here and isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        remedy = "Make room, or set HF_HOME, or HF_HUB_CACHE, to another directory."
        return NotWritable(cache_directory(), error.strerror or str(error), remedy)
    said = next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__
    why = f"it answered {status}" if status else said
    why = f"there is no complete copy here, and {hub} does not answer as a hub should ({why})"
    return HubUnreachable(repository, why, advise_to_retry())

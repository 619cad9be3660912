"""A batch from its beginning, or from where an earlier run of it stopped, to its end."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dream_edge_runtime.errors import Cancelled, InvalidOption
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.progress import Meter, OnProgress, silent

from ..models import is_bundled, load, open_artifact, served_name
from .engine import Engine
from .errors import UnreadableBatch
from .local_engine import LocalEngine
from .ray_engine import RayEngine
from .requests import Remaining, count_requests, read_lines
from .results import open_results
from .source import Source


@dataclass(frozen=True)
class BatchSummary:
    """How a batch ended: requests answered, of them by earlier runs, refused by this one, and all there are."""

    done: int
    before: int
    refused: int
    total: int


def batch(
    artifact: str | Path,
    requests: str | Path,
    results: str | Path,
    *,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    address: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    as_int8: bool = False,
    memory_check: bool = True,
    cancel: threading.Event | None = None,
    progress: OnProgress = silent,
) -> BatchSummary:
    """Answer every request of the file `requests` in the file `results`, one line each, as OpenAI's batches have it.

    Killed at any moment, it leaves whole lines; the same call, with either engine, resumes after them. A request that
    cannot be met gets its error in its line, and the others go on.

    Args:
        artifact, device, threads, as_int8, memory_check: as for `dream_edge.load`.
        engine: this process, or the workers of a Ray cluster.
        workers, address: of the cluster, see `RayEngine`.
        cancel: set it and the batch ends after the next answer.
        progress: told of a download in bytes, of loading, and of answering in requests.

    Raises: as `run_batch` and `dream_edge.load`; InvalidOption where an option does not belong to the engine.
    """
    for name, value in (("workers", workers), ("address", address)):
        if engine == "local" and value is not None:
            raise InvalidOption(name, value, "is for --engine ray")
    source = Path(requests)
    count_requests(source)  # before anything is downloaded
    opened = open_artifact(artifact, progress=progress)
    served = served_name(artifact, opened)
    chosen: Engine
    if engine == "ray":
        is_here = Path(artifact).exists() and not is_bundled(artifact)
        chosen = RayEngine(
            source=Source(
                name=Path(artifact).absolute() if is_here else artifact,
                device="cuda" if device == "cuda" else "cpu",
                as_int8=as_int8,
                memory_check=memory_check,
            ),
            served=served,
            workers=workers,
            threads=threads,
            address=address,
        )
    else:

        def load_model() -> DreamModel:
            return load(
                opened.path,
                device=device,
                threads=threads,
                as_int8=as_int8,
                memory_check=memory_check,
                progress=progress,
            )

        chosen = LocalEngine(load_model, served)
    return run_batch(chosen, source, Path(results), cancel=cancel, progress=progress)


def run_batch(
    engine: Engine,
    source: Path,
    out: Path,
    *,
    cancel: threading.Event | None = None,
    progress: OnProgress = silent,
) -> BatchSummary:
    """Answer every request of `source` in `out`, one line each, as the answers come.

    Killed at any moment, it leaves whole lines; the same call, with this engine or another, goes on after them. A
    request that cannot be met gets its error in its line, and the others go on.

    Args:
        engine: computes the answers; not asked where nothing is left to do.
        cancel: set it and the batch ends after the next answer.

    Raises:
        UnreadableBatch: a line of `source` is no request, or two have the same id.
        MismatchedResults: `out` holds answers to other requests.
        NotWritable: the disk fails, or the place is read-only.
        OutputBusy: another process writes there.
        Cancelled: `cancel` was set.
        DreamEdgeError: what the engine raises.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise UnreadableBatch(source, "it would be overwritten by its results")
    total = count_requests(source)  # fails early on problems of the whole file
    with open_results(out) as results:
        before = 0
        for line in read_lines(source):
            results.check(line)
            before += line.number in results.done
        found = BatchSummary(before, before, 0, total)
        meter = Meter(progress, "answering", total, "requests", done=before)
        if before == total:
            return found
        remaining = Remaining(source, frozenset(results.done))
        with closing(engine.answers(remaining)) as answers:
            while found.done < total:
                if cancel is not None and cancel.is_set():
                    raise Cancelled
                answer = next(answers, None)
                if answer is None:
                    raise UnreadableBatch(source, "lines went missing while it was being answered")
                if answer.number in results.done:
                    continue
                results.add(answer)
                found = BatchSummary(found.done + 1, before, found.refused + (answer.status != 200), total)
                meter.advance()
    return found

"""A batch from its beginning, or from where an earlier run of it stopped, to its end, on one of two engines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from dream_edge_runtime.errors import Cancelled, InvalidOption
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.progress import Meter, OnProgress, silent

from ..models import is_bundled, open_artifact, served_name
from .answers import Answer, answer
from .errors import UnreadableBatch
from .ray_engine import RayEngine
from .requests import Remaining, count_requests, keep_requests, parse, read_lines
from .results import open_results
from .source import Source

_WORKER_PREFIXES = 250_000_000  # a share of what is free would be counted once for each worker of a machine


class Engine(Protocol):
    """A way to answer requests. A batch begun with one may be finished with another."""

    def answers(self, remaining: Remaining) -> Generator[Answer, None, None]:
        """An answer for each of the requests, in any order, as soon as it is there; an answer may come twice.

        Closing the generator ends the work. Nothing is done before the first answer is asked for.
        """
        ...


@dataclass(frozen=True)
class LocalEngine:
    """One model in this process, which answers one request after the other, in their order.

    Attributes:
        load: gives the model; not called if nothing is left to do.
        served: its name, the only one that requests may ask for.
    """

    load: Callable[[], DreamModel]
    served: str

    def answers(self, remaining: Remaining) -> Generator[Answer, None, None]:
        """See `Engine`."""
        model = self.load()
        for number, data in remaining:
            yield answer(model, self.served, parse(number, data))


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
        requests: a file, or a pipe, which is read to its end first.
        engine: this process, or the workers of a Ray cluster.
        workers, address: of the cluster, see `RayEngine`.
        cancel: set it and the batch ends after the next answer.
        progress: told of a download in bytes, of loading, and of answering in requests.

    Raises: as `run_batch` and `dream_edge.load`; InvalidOption where an option does not belong to the engine.
    """
    if engine not in ("local", "ray"):
        raise InvalidOption("engine", engine, "must be local or ray")
    for name, value in (("workers", workers), ("address", address)):
        if engine == "local" and value is not None:
            raise InvalidOption(name, value, "is for --engine ray")
    with keep_requests(Path(requests)) as kept:
        count_requests(kept)  # before anything is downloaded
        opened = open_artifact(artifact, progress=progress)
        served = served_name(artifact, opened)
        source = Source(name=opened.path, device=device, as_int8=as_int8, memory_check=memory_check)
        chosen: Engine
        if engine == "local":
            chosen = LocalEngine(lambda: source.load(threads, progress), served)
        else:
            is_here = Path(artifact).exists() and not is_bundled(artifact)
            source = replace(
                source,
                name=Path(artifact).absolute() if is_here else artifact,
                device="cuda" if device == "cuda" else "cpu",  # Ray gives a worker the GPUs that it asks for
                prefix_cache_bytes=_WORKER_PREFIXES,
            )
            chosen = RayEngine(source=source, served=served, workers=workers, threads=threads, address=address)
        return run_batch(chosen, kept, Path(results), cancel=cancel, progress=progress)


def run_batch(
    engine: Engine,
    source: Path,
    out: Path,
    *,
    cancel: threading.Event | None = None,
    progress: OnProgress = silent,
) -> BatchSummary:
    """Answer every request of `source` in `out` with `engine`, as `batch` does.

    Args:
        engine: computes the answers; not asked if nothing is left to do.
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
        before = refused = 0
        for line in read_lines(source):
            results.check(line)
            before += line.number in results.done
        meter, done = Meter(progress, "answering", total, "requests", done=before), before
        if done < total:
            with closing(engine.answers(Remaining(source, frozenset(results.done)))) as answers:
                while done < total:
                    if cancel is not None and cancel.is_set():
                        raise Cancelled
                    found = next(answers, None)
                    if found is None:
                        raise UnreadableBatch(source, "lines went missing while it was being answered")
                    if found.number not in results.done:
                        results.add(found)
                        done, refused = done + 1, refused + (found.status != 200)
                        meter.advance()
    return BatchSummary(done, before, refused, total)

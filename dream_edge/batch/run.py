"""A batch from its beginning, or from where an earlier run of it stopped, to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.model import DreamModel

from .answers import answer
from .errors import UnreadableBatch
from .requests import count_requests, read_lines
from .results import open_results


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is: requests answered, of them by earlier runs, refused, and all there are."""

    done: int
    before: int
    refused: int
    total: int


Progress = Callable[[BatchProgress], None]


def run_batch(
    load: Callable[[], DreamModel],
    served: str,
    source: Path,
    out: Path,
    *,
    cancel: threading.Event | None = None,
    progress: Progress = lambda _: None,
) -> BatchProgress:
    """Answer every request of `source` in `out`, one line each, in the order they come.

    Killed at any moment, it leaves whole lines; the same call goes on after them. A request that cannot be met gets its
    error in its line, and the others go on.

    Args:
        load: gives the model; not called where nothing is left to do.
        served: its name, the only one that requests may ask for.
        cancel: set it and the batch ends before the next request.

    Raises:
        UnreadableBatch, MismatchedResults, ResultsNotWritable, OutputBusy, Cancelled, and what `load` raises.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise UnreadableBatch(source, "it would be overwritten by its results")
    total = count_requests(source)  # everything that is wrong with it as a whole is said now
    with open_results(out) as results:
        before = 0
        for line in read_lines(source):
            results.check(line)
            before += line.number in results.done
        found = BatchProgress(before, before, 0, total)
        progress(found)
        if before == total:
            return found
        model = load()
        for line in read_lines(source):
            if line.number in results.done:
                continue
            if cancel is not None and cancel.is_set():
                raise Cancelled
            result = answer(model, served, line)
            results.add(result)
            refused = found.refused + (result["response"]["status_code"] != 200)
            found = BatchProgress(found.done + 1, before, refused, total)
            progress(found)
    return found

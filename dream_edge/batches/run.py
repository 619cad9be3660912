"""A batch from its beginning, or from where an earlier run of it stopped, to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dream_edge_runtime.errors import Cancelled

from .engine import Engine
from .errors import UnreadableBatch
from .requests import Remaining, count_requests, read_lines
from .results import open_results


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is: requests answered, of them by earlier runs, refused, and all there are."""

    done: int
    before: int
    refused: int
    total: int


Progress = Callable[[BatchProgress], None]


def batch(
    engine: Engine,
    source: Path,
    out: Path,
    *,
    cancel: threading.Event | None = None,
    progress: Progress = lambda _: None,
) -> BatchProgress:
    """Answer every request of `source` in `out`, one line each, as the answers come.

    Killed at any moment, it leaves whole lines; the same call, with this engine or another, goes on after them. A
    request that cannot be met gets its error in its line, and the others go on.

    Args:
        engine: computes the answers; not asked where nothing is left to do.
        cancel: set it and the batch ends after the next answer.

    Raises:
        UnreadableBatch: a line of `source` is no request, or two have the same id.
        MismatchedResults: `out` holds answers to other requests.
        ResultsNotWritable: the disk fails, or the place is read-only.
        OutputBusy: another process writes there.
        Cancelled: `cancel` was set.
        DreamEdgeError: what the engine raises.
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
                found = BatchProgress(found.done + 1, before, found.refused + (answer.status != 200), total)
                progress(found)
    return found

"""How far a verb is: a bar on a terminal for each task that it reports, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dream_edge_runtime.progress import OnProgress, Progress
from dream_edge_runtime.units import size

from .io import is_terminal, note

if TYPE_CHECKING:
    from rich import progress as rich_progress

_QUIET_SECONDS = 5.0


@contextmanager
def show_progress() -> Iterator[OnProgress]:
    """Show on stderr what is reported while the block runs, one task after the other.

    What was done at the first report of a task does not count for its speed.
    """
    if not is_terminal(sys.stderr):
        yield _Lines().show
        return
    bars = _Bars()
    try:
        yield bars.show
    finally:
        bars.close()


class _Bars:
    """A bar for the task at work; it is gone when the task is done."""

    def __init__(self) -> None:
        self._task = ""
        self._bar: rich_progress.Progress | None = None

    def show(self, now: Progress) -> None:
        if now.task != self._task:
            self.close()
        is_done = 0 < now.total <= now.done
        if self._bar is None and not is_done:
            self._bar = self._open(now)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=now.done, amount=_amounts(now))
        if is_done:
            self.close()

    def _open(self, now: Progress) -> rich_progress.Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        amount = TextColumn("{task.fields[amount]}")
        columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
        bar = Progress(*columns, console=Console(stderr=True), transient=True)
        bar.add_task(_label(now), total=now.total or None, completed=int(now.done), amount="")
        bar.start()
        self._task = now.task
        return bar

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _Lines:
    """A line every few seconds."""

    def __init__(self) -> None:
        self._first: Progress | None = None
        self._start = self._last = 0.0

    def show(self, now: Progress) -> None:
        seconds, first = time.monotonic(), self._first
        if first is None or first.task != now.task:
            self._first, self._start, self._last = now, seconds, seconds
        elif seconds - self._last >= _QUIET_SECONDS and first.done < now.done < now.total:
            left = (seconds - self._start) * (now.total - now.done) / (now.done - first.done)
            note(f"{_label(now)}: {_amounts(now)} ({now.share:.0%}), about {left:.0f} s left")
            self._last = seconds


def _label(now: Progress) -> str:
    return now.task[:1].upper() + now.task[1:]


def _amounts(now: Progress) -> str:
    if not now.unit:  # it is not known how much there is
        return ""
    if now.unit == "bytes":
        return f"{size(now.done)} of {size(now.total)}"
    done = f"{now.done:.0f}" if float(now.done).is_integer() else f"{now.done:.1f}"
    return f"{done} of {now.total:.0f} {now.unit}"

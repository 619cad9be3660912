"""How far a long piece of work is: one report for exports, measurements, downloads, batches and the rest.

A function that may take long has a keyword `progress: OnProgress = silent` and calls it with a `Progress`: at the start
of each task (with `done` 0, or what an earlier run left done), then after each piece of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A task of a long piece of work, and how much of it is done."""

    task: str
    """What is being done, as a participle for people to read: "exporting", "downloading", "calibrating"."""
    done: float
    """How much is done, from 0 to `total`. It may be a fraction of a piece, and what an earlier run did counts."""
    total: float
    """All of it; 0 if that is not known."""
    unit: str
    """What is counted, in the plural: "bytes", "layers", "passes", "requests"."""
    detail: str = ""
    """What is at work now, such as a layer's or a file's name; empty if there is nothing to name."""

    @property
    def share(self) -> float:
        """The part that is done, from 0 to 1; 0 while the whole is not known."""
        return min(1.0, self.done / self.total) if self.total else 0.0


OnProgress = Callable[[Progress], object]
"""Called on the thread that does the work; what it returns is ignored, and what it raises ends the work."""


def silent(progress: Progress) -> None:
    """Show nothing."""


class Meter:
    """Counts one task in steps and reports it: at its start, and after each `advance`."""

    def __init__(self, report: OnProgress, task: str, total: float, unit: str, *, done: float = 0) -> None:
        self._report = report
        self._now = Progress(task, done, total, unit)
        report(self._now)

    def advance(self, more: float = 1, detail: str = "") -> None:
        """Count `more` as done."""
        self.reach(self._now.done + more, detail)

    def reach(self, done: float, detail: str = "") -> None:
        """Count `done` in all as done."""
        now = self._now
        self._now = Progress(now.task, done, now.total, now.unit, detail)
        self._report(self._now)

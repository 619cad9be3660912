"""How far a long task is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .io import is_terminal, note

_QUIET_SECONDS = 5.0

Advance = Callable[[float], None]
"""Called with how much is done, out of the total. What was done at the first call does not count for the speed."""


@contextmanager
def progress(label: str, total: float, shown: Callable[[float], str]) -> Iterator[Advance]:
    """Show a task's progress on stderr while the block runs; `shown` writes an amount with its unit."""
    with (_bar if is_terminal(sys.stderr) else _lines)(label, total, shown) as advance:
        yield advance


@contextmanager
def _bar(label: str, total: float, shown: Callable[[float], str]) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, amount="", start=False)

        def advance(done: float) -> None:
            amount = f"{shown(done)} of {shown(total)}"
            if bar.tasks[task].started:
                bar.update(task, completed=done, amount=amount)
            else:
                bar.reset(task, completed=int(done), amount=amount)

        yield advance


@contextmanager
def _lines(label: str, total: float, shown: Callable[[float], str]) -> Iterator[Advance]:
    start = last = time.monotonic()
    first: float | None = None

    def advance(done: float) -> None:
        nonlocal start, last, first
        now = time.monotonic()
        if first is None:
            start, first = now, done
        if now - last >= _QUIET_SECONDS and first < done < total:
            left = (now - start) * (total - done) / (done - first)
            note(f"{label}: {shown(done)} of {shown(total)} ({done / total:.0%}), about {left:.0f} s left")
            last = now

    yield advance

"""Run a generation in a thread of its own, so that Ctrl-C is heard during a pass, and show how it comes about."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from dream_edge_runtime.host import peak_memory
from dream_edge_runtime.units import counted, size

from .io import is_terminal, note, print_json, print_text, printable

if TYPE_CHECKING:
    from dream_edge_runtime.generation.denoising import Denoising
    from dream_edge_runtime.generation.results import Generation, Step
    from dream_edge_runtime.text.tokenizer import Tokenizer

    from .painter import Painter

_POLL_SECONDS = 0.1  # Windows hears Ctrl-C only between two waits
_FRAME_SECONDS = 1 / 20
_LOG_SHARE = 1 / 16


def watch(
    begin: Callable[[threading.Event], Denoising], tokenizer: Tokenizer, *, visual: bool = False, pace: float = 0.0
) -> Generation:
    """Show the generation that `begin` starts, until it ends. `begin` is given the event that cancels it.

    On a terminal a progress line is shown, with the canvas below it if `visual`, each step for `pace` seconds at least;
    elsewhere lines of text if `visual`.

    Ctrl-C stops the generation within a step, and is then raised as KeyboardInterrupt.
    """
    cancel = threading.Event()
    denoising = begin(cancel)  # in this thread: bad arguments are reported before anything is drawn
    steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for step in denoising:
                steps.put(step)
        except BaseException as error:  # raised again in the thread that waits
            errors.append(error)
        finally:
            steps.put(None)

    worker = threading.Thread(target=work, name="dream-edge-generation", daemon=True)
    with _open_display(tokenizer, visual, pace) as show:
        worker.start()
        try:
            while (step := _next(steps)) is not None:
                show(step)
        finally:
            cancel.set()
            worker.join()
    if errors:
        raise errors[0]
    return denoising.result()


def _next(steps: queue.SimpleQueue[Step | None]) -> Step | None:
    while True:
        try:
            return steps.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue


@contextmanager
def _open_display(tokenizer: Tokenizer, visual: bool, pace: float) -> Iterator[Callable[[Step], None]]:
    if not is_terminal(sys.stderr):
        yield _Log().show if visual else lambda _: None
        return
    from .painter import Painter

    with Painter() as painter:
        yield _Live(painter, tokenizer, visual, pace).show


class _Log:
    """A line for every sixteenth of the text, the first step and the last; and where a block begins."""

    def __init__(self) -> None:
        self._next = 0.0

    def show(self, step: Step) -> None:
        from .canvas_view import plain_line

        goes_on = step.moved is not None and step.moved[-1] < 0
        if goes_on or step.progress >= self._next:
            note(printable(plain_line(step)))
            self._next = min(step.progress + _LOG_SHARE, 1.0) if step.progress < 1 else 2.0


class _Live:
    """Frames in place, some of them left out when steps come faster than a screen shows them."""

    def __init__(self, painter: Painter, tokenizer: Tokenizer, visual: bool, pace: float) -> None:
        from .canvas_view import CanvasView

        self._painter, self._pace = painter, pace
        self._view = CanvasView(tokenizer) if visual else None
        self._start = time.perf_counter()
        self._drawn = 0.0

    def show(self, step: Step) -> None:
        from .canvas_view import header

        if self._view:
            self._view.observe(step)
        now = time.perf_counter()
        if now - self._drawn < _FRAME_SECONDS and not self._pace and step.progress < 1:
            return
        width, height = self._painter.size
        seconds = 0.0 if self._pace else now - self._start  # slowed down, a rate would say nothing
        lines = [header(step, seconds, width)]
        if self._view:
            lines += self._view.frame(step, width, max(1, height - 2))
        self._painter.draw(lines)
        self._drawn = now
        time.sleep(self._pace)


def print_result(generation: Generation, *, as_json: bool) -> None:
    """One JSON object, or the text on stdout and a line of statistics on stderr."""
    peak = peak_memory()
    if as_json:
        values = {each.name: getattr(generation, each.name) for each in fields(generation) if each.name != "history"}
        values["changes"] = [asdict(change) for change in generation.changes]
        print_json(values | {"tokens_per_second": generation.tokens_per_second, "peak_memory_bytes": peak})
        return
    print_text(generation.text)
    parts = [
        f"{counted(generation.steps, 'step')} ({counted(generation.passes, 'pass', 'passes')}) "
        f"in {generation.seconds:.2f} s",
        counted(generation.new_tokens, "token"),
        f"{generation.tokens_per_second:.1f} tokens/s",
        *([f"peak memory {size(peak)}"] if peak else []),
        f"seed {generation.seed}",
    ]
    note(" · ".join(parts))

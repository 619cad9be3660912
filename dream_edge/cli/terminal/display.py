"""Who watches a generation: a person at a terminal, a log, or nobody."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from .io import is_terminal, note, printable

if TYPE_CHECKING:
    from dream_edge_runtime.generation.results import Step
    from dream_edge_runtime.text.tokenizer import Tokenizer

    from .painter import Painter

_FRAME_SECONDS = 1 / 20
_LOG_SHARE = 1 / 16


class Display(Protocol):
    def show(self, step: Step) -> None: ...


@contextmanager
def open_display(tokenizer: Tokenizer, *, visual: bool, pace: float = 0.0) -> Iterator[Display]:
    """On a terminal a progress line, with the canvas below it if `visual`; elsewhere lines of text if `visual`.

    `pace` is the least time in seconds for which a terminal shows each step.
    """
    if not is_terminal(sys.stderr):
        yield _Log() if visual else _Nobody()
        return
    from .painter import Painter

    with Painter() as painter:
        yield _Live(painter, tokenizer, visual, pace)


class _Nobody:
    def show(self, step: Step) -> None:
        pass


class _Log:
    """A line for every sixteenth of the text, the first step and the last."""

    def __init__(self) -> None:
        self._next = 0.0

    def show(self, step: Step) -> None:
        from .canvas_view import plain_line

        if step.progress >= self._next:
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

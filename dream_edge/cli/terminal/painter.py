"""Lines at the bottom of a terminal, drawn again in place without flicker."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.text import Text

_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # a synchronized update; terminals that do not know it ignore it
_ERASE_REST_OF_LINE, _ERASE_BELOW = "\x1b[K", "\x1b[J"


class Painter:
    """Writes each frame over the last one, in one write: nothing is erased before its replacement is there.

    As a context manager it hides the cursor, and leaves the terminal as if nothing had been drawn.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console: Console = console or Console(stderr=True, highlight=False)
        self._widths: list[int] = []  # of the lines on the screen

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows. The last column is left free: some terminals wrap when it is filled."""
        return max(1, self.console.width - 1), self.console.height

    def draw(self, lines: Sequence[Text]) -> None:
        rendered = f"{_ERASE_REST_OF_LINE}\n".join(self._ansi(line) for line in lines)
        self._write(f"{_BEGIN}{self._back()}{rendered}{_ERASE_REST_OF_LINE}{_ERASE_BELOW}{_END}")
        self._widths = [line.cell_len for line in lines]

    def erase(self) -> None:
        if self._widths:
            self._write(f"{self._back()}{_ERASE_BELOW}")
            self._widths = []

    def _back(self) -> str:
        """To the first cell of the last frame, also where a narrower window has wrapped its lines since."""
        rows = sum(max(1, -(-width // self.console.width)) for width in self._widths)
        return "\r" + (f"\x1b[{rows - 1}A" if rows > 1 else "")

    def _ansi(self, line: Text) -> str:
        with self.console.capture() as captured:
            self.console.print(line, end="", soft_wrap=True)
        return captured.get()

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    def __enter__(self) -> Painter:
        self._write(_HIDE_CURSOR)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.erase()
        self._write(_SHOW_CURSOR)

"""A person at the desktop editor, and a model that waits for each pass to be let through. Qt is imported when used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.inference.network import Network, Rows

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

    from dream_editor.window import Window

TEXT = "Yesterday the old man slept near the river because he was tired.\n\nTomorrow the boys will see the dog again.\n"
OLD = "old man slept near"


class SteppedNetwork:
    """A network whose passes wait until they are let through, one at a time."""

    def __init__(self, network: Network) -> None:
        self._network, self._allowed, self.begun = network, threading.Semaphore(0), 0
        self.keeps_keys, self.pass_overhead = network.keeps_keys, network.pass_overhead

    @property
    def config(self) -> ModelConfig:
        return self._network.config

    def allow(self, passes: int) -> None:
        self._allowed.release(passes)

    def forward(self, *args: Any, **keywords: Any) -> Rows:
        cancel: threading.Event | None = args[5] if len(args) > 5 else keywords.get("cancel")
        self.begun += 1
        while not self._allowed.acquire(timeout=0.01):
            if cancel is not None and cancel.is_set():
                raise Cancelled
        return self._network.forward(*args, **keywords)


class Desk:
    """A person at the window."""

    def __init__(self, application: QApplication, window: Window, network: SteppedNetwork) -> None:
        self.application, self.window, self.network = application, window, network
        self.editor = window.editor

    def until(self, holds: Callable[[], object], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end
            self.application.processEvents()
            time.sleep(0.002)

    def rest(self, seconds: float = 0.2) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    @property
    def shown(self) -> str:
        return self.editor.toPlainText()

    def press(self, keys: str) -> None:
        """Keys as they come from a keyboard, through shortcuts and all: "Ctrl+R"."""
        from PySide6.QtGui import QKeySequence
        from PySide6.QtTest import QTest

        QTest.keySequence(self.window.windowHandle(), QKeySequence(keys))

    def type(self, text: str) -> None:
        from PySide6.QtTest import QTest

        QTest.keyClicks(self.editor, text)

    def select(self, start: int, stop: int | None = None) -> None:
        """In what is shown, in UTF-16 units."""
        from PySide6.QtGui import QTextCursor

        cursor = self.editor.textCursor()
        cursor.setPosition(start)
        cursor.setPosition(start if stop is None else stop, QTextCursor.MoveMode.KeepAnchor)
        self.editor.setTextCursor(cursor)

    def select_text(self, text: str) -> None:
        before = self.shown[: self.shown.index(text)]
        start = len(before.encode("utf-16-le")) // 2
        self.select(start, start + len(text.encode("utf-16-le")) // 2)

    def begin(self, text: str = OLD) -> None:
        """Have `text` rewritten, and stop after the first step."""
        self.select_text(text)
        self.press("Ctrl+R")
        self.network.allow(1)
        self.until(lambda: "░" in self.shown)

    def step_to(self, masks: int) -> None:
        """Let passes through, of which a step may take several, until so many tokens are masked."""
        while self.shown.count("░") != masks:
            self._let_through()

    def _let_through(self) -> None:
        """One pass, up to where the next one waits."""
        begun = self.network.begun
        self.network.allow(1)
        self.until(lambda: self.network.begun > begun)
        self.rest(0.02)

    def finish(self) -> None:
        self.network.allow(1000)
        self.until(lambda: self.window._job is None)

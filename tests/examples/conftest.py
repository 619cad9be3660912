"""The desktop editor's window, offscreen: `pip install .[desktop]`, on Linux `apt install libegl1 libxkbcommon0`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import dream_edge
from support.desk import TEXT, Desk, SteppedNetwork

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication


@pytest.fixture(scope="session")
def application() -> QApplication:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6.QtWidgets import QApplication

    return QApplication([])


@pytest.fixture
def desk(application: QApplication, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    from PySide6.QtWidgets import QMessageBox

    from dream_editor.window import Window

    monkeypatch.setattr(QMessageBox, "warning", lambda *_: QMessageBox.StandardButton.Discard)  # nobody is there to ask
    model = dream_edge.load("tiny", threads=1)
    network = SteppedNetwork(model.network)
    real = dream_edge.load
    monkeypatch.setattr(
        dream_edge, "load", lambda name: replace(model, network=network) if name == "tiny" else real(name)
    )
    window = Window()
    window.surprise.setValue(0)
    window.show()
    window.activateWindow()
    window.load("tiny")
    desk = Desk(application, window, network)
    desk.until(lambda: window.writer.name == "tiny")
    desk.editor.setPlainText(TEXT)
    desk.editor.document().setModified(False)
    yield desk
    window.stop()
    window.editor.document().setModified(False)
    window.close()
    network.allow(10_000)  # whatever went wrong, its thread is to end
    window.writer.close()

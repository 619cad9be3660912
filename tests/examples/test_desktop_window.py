"""The desktop editor's window, offscreen: `pip install .[desktop]`, on Linux `apt install libegl1 libxkbcommon0`."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import dream_edge
from dream_edge_runtime.config import ModelConfig
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.network import Network, Rows

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

    from dream_editor.window import Window

pytestmark = pytest.mark.slow

TEXT = "Yesterday the old man slept near the river because he was tired.\n\nTomorrow the boys will see the dog again.\n"
OLD = "old man slept near"


class SteppedNetwork:
    """A network whose passes wait until they are let through, one at a time."""

    def __init__(self, network: Network) -> None:
        self._network, self._allowed, self.begun = network, threading.Semaphore(0), 0

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
        """Let `text` be written anew, and stop after the first step."""
        self.select_text(text)
        self.press("Ctrl+R")
        self.network.allow(1)
        self.until(lambda: "░" in self.shown)

    def finish(self) -> None:
        self.network.allow(1000)
        self.until(lambda: self.window._job is None)


@pytest.fixture(scope="module")
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


def test_a_selection_is_rewritten_in_place(desk: Desk) -> None:
    desk.begin()
    desk.finish()
    before, after = TEXT.split(OLD)
    text = desk.editor.plain()
    assert text.startswith(before)
    assert text.endswith(after)
    new = text.removeprefix(before).removesuffix(after)
    assert len(new.split()) == len(OLD.split())
    assert "░" not in new
    assert desk.editor.document().isModified()


def test_it_is_what_the_model_fills_in(desk: Desk) -> None:
    before, after = TEXT.split(OLD)
    desk.network.allow(1000)
    expected = dream_edge.load("tiny").fill([before.rstrip(" "), 4, after], temperature=0.0).holes[0]
    desk.select_text(OLD)
    desk.press("Ctrl+R")
    desk.finish()
    assert desk.editor.plain() == before.rstrip(" ") + expected + after


def test_the_draft_is_shown_in_the_text_step_by_step(desk: Desk) -> None:
    before, after = TEXT.split(OLD)
    desk.begin()
    masks = [desk.shown.count("░")]
    while desk.window._job:
        assert desk.shown.startswith(before)
        assert desk.shown.endswith(after)
        assert desk.editor.plain() == TEXT
        masks.append(desk.shown.count("░"))
        desk.network.allow(1)
        desk.rest(0.05)
    assert masks[0] == 3
    assert masks == sorted(masks, reverse=True)


def test_masked_fresh_and_settled_text_look_different(desk: Desk) -> None:
    from PySide6.QtGui import QTextCursor

    desk.begin()
    desk.network.allow(1)
    desk.until(lambda: desk.shown.count("░") == 2)
    looks: dict[tuple[str, str], list[str]] = {}
    for at, character in enumerate(desk.shown):
        cursor = QTextCursor(desk.editor.document())
        cursor.setPosition(at + 1)
        style = cursor.charFormat()
        looks.setdefault((style.foreground().color().name(), style.background().color().name()), []).append(character)
    assert len(looks) == 4, "untouched text, and the three states"
    assert any(set(characters) == {"░"} for characters in looks.values())


def test_escape_stops_within_a_step_and_gives_the_text_back(desk: Desk) -> None:
    desk.begin()
    desk.press("Esc")
    assert desk.shown == TEXT
    assert not desk.editor.document().isModified()
    assert not desk.editor.document().isUndoAvailable()
    assert not desk.editor.document().isRedoAvailable(), "a draft must not come back"
    begun = desk.network.begun
    desk.network.allow(1000)
    desk.rest()
    assert desk.network.begun <= begun + 1
    assert desk.shown == TEXT
    desk.select_text(OLD)
    desk.press("Ctrl+R")
    desk.finish()
    assert desk.editor.plain() != TEXT, "and it can be asked again"


def test_what_a_stopped_job_still_tells_is_not_shown(desk: Desk) -> None:
    desk.begin()
    begun = desk.network.begun
    desk.network.allow(1)
    while desk.network.begun == begun:  # a step is made, and waits for the window
        time.sleep(0.01)
    desk.window.stop()
    desk.editor.setPlainText("The [[1]] man [[1]] because [[1]].")
    desk.window.fill()
    desk.rest(0.05)
    assert desk.shown == "The [[1]] man [[1]] because [[1]]."
    desk.finish()
    text = desk.editor.plain()
    assert text.startswith("The ")
    assert " man " in text
    assert " because " in text


def test_one_undo_takes_a_rewriting_back_and_nothing_else(desk: Desk) -> None:
    desk.select(0)
    desk.type("Well. ")
    desk.begin()
    desk.finish()
    rewritten = desk.editor.plain()
    desk.type("XY")  # right after what was written
    assert "XY" in desk.editor.plain()
    desk.press("Ctrl+Z")
    assert desk.editor.plain() == rewritten
    desk.press("Ctrl+Z")
    assert desk.editor.plain() == "Well. " + TEXT
    desk.press("Ctrl+Shift+Z")
    assert desk.editor.plain() == rewritten
    desk.press("Ctrl+Z")
    desk.press("Ctrl+Z")
    assert desk.editor.plain() == TEXT


def test_holes_are_filled_and_undone_together(desk: Desk) -> None:
    text = "😀 The old man [[1]] because he [[1]] hungry."
    desk.editor.setPlainText(text)
    desk.press("Ctrl+Return")
    desk.finish()
    filled = desk.editor.plain()
    assert filled.startswith("😀 The old man ")
    assert filled.endswith(" hungry.")
    assert " because he " in filled
    assert "[" not in filled
    assert "  " not in filled
    desk.press("Ctrl+Z")
    assert desk.editor.plain() == text


def test_a_gap_is_written_at_the_caret(desk: Desk) -> None:
    desk.editor.setPlainText("The old man because he was hungry.")
    desk.select(len("The old man"))
    desk.window.length.setValue(1)
    desk.press("Ctrl+Return")
    desk.finish()
    text = desk.editor.plain()
    assert text.startswith("The old man ")
    assert text.endswith(" because he was hungry.")
    assert len(text.split()) == 8
    desk.press("Ctrl+Z")
    assert desk.editor.plain() == "The old man because he was hungry."


@pytest.mark.parametrize("is_before", [True, False])
def test_edits_elsewhere_stay_while_it_writes(desk: Desk, is_before: bool) -> None:
    desk.begin()
    typed = "Meanwhile, "
    desk.select(0 if is_before else desk.shown.index("Tomorrow"))
    for character in typed:
        desk.type(character)
        if character == "w":
            desk.network.allow(1)
            desk.until(lambda: desk.shown.count("░") == 2)
    own = typed + TEXT if is_before else TEXT.replace("Tomorrow", typed + "Tomorrow")
    assert desk.editor.plain() == own
    assert "░" in desk.shown
    assert desk.shown.index(typed) == own.index(typed) + (0 if is_before else len(desk.shown) - len(own))
    desk.finish()
    before, after = own.split(OLD)
    text = desk.editor.plain()
    assert text.startswith(before)
    assert text.endswith(after)
    assert text != own
    desk.press("Ctrl+Z")
    assert desk.editor.plain() == own
    for _ in typed:
        desk.press("Ctrl+Z")
    assert desk.editor.plain() == TEXT


def test_the_users_own_edits_can_be_undone_while_it_writes(desk: Desk) -> None:
    desk.begin()
    desk.select(len(desk.shown))
    desk.type("ab")
    for left in ("a", "", ""):
        desk.press("Ctrl+Z")
        assert desk.editor.plain() == TEXT + left
        assert "░" in desk.shown


def test_text_can_be_pasted_and_cut_while_it_writes(desk: Desk, application: QApplication) -> None:
    desk.begin()
    application.clipboard().setText("pasted\nlines ")
    desk.select(0)
    desk.press("Ctrl+V")
    assert desk.editor.plain() == "pasted\nlines " + TEXT
    desk.select_text("Tomorrow")
    desk.press("Ctrl+X")
    assert desk.editor.plain() == "pasted\nlines " + TEXT.replace("Tomorrow", "")
    assert "░" in desk.shown
    desk.press("Esc")
    assert desk.shown == "pasted\nlines " + TEXT.replace("Tomorrow", "")


@pytest.mark.parametrize("seed", range(20))
def test_any_edits_leave_the_text_they_leave_without_drafts(application: QApplication, seed: int) -> None:
    from PySide6.QtTest import QTest
    from PySide6.QtWidgets import QPlainTextEdit

    from dream_editor.editor import Editor
    from dream_editor.passage import Hole
    from dream_editor.writer import Run

    draw, text = random.Random(seed), "😀 one two\n\nthree four\nfive\n"
    drafted, plain = Editor(), QPlainTextEdit()
    for editor in (drafted, plain):
        editor.setPlainText(text)
    drafted.begin(text, [Hole(2, 5), Hole(9, 9), Hole(17, 21)])
    touched = []
    drafted.touched.connect(lambda: touched.append(True))
    for _ in range(60):
        drafted.show_drafts([[Run(draw.choice(["x", "draft 😀", "two\nlines"]), "fresh")] for _ in range(3)])
        key = draw.choice(["a", "ü", "Return", "Backspace", "Del", "End", "Ctrl+V", "Ctrl+X"])
        application.clipboard().setText(draw.choice(["p", "😀", "pasted\nlines"]))
        inside = {at for place in drafted._places for at in range(place.start + 1, place.stop)}
        outside = [at for at in range(plain.document().characterCount()) if at not in inside]
        anchor = draw.choice(outside)
        position = draw.choice(outside) if draw.random() < 0.2 else anchor
        copied = application.clipboard().text()
        for editor, door in ((drafted, drafted.own_text), (plain, nullcontext)):
            application.clipboard().setText(copied)
            with door():
                cursor = editor.textCursor()
                cursor.setPosition(anchor)
                cursor.setPosition(position, cursor.MoveMode.KeepAnchor)
                editor.setTextCursor(cursor)
            QTest.keySequence(editor, key)
        assert drafted.plain() == plain.toPlainText()
        if touched:
            break
    if not touched:
        drafted.finish(["1", "2", "3"])
        drafted.undo()
    assert drafted.plain() == plain.toPlainText()
    while drafted.document().isUndoAvailable():
        drafted.undo()
    assert drafted.plain() == text


def test_typing_into_what_is_written_keeps_the_edit_and_stops_the_model(desk: Desk) -> None:
    desk.begin()
    at = TEXT.index(OLD)
    desk.select(at - 2, at + 6)
    desk.type("Q")
    assert desk.window._job is None
    assert "░" not in desk.shown
    assert desk.shown == TEXT[: at - 2] + "Q" + TEXT[at + len(OLD) :]
    desk.press("Ctrl+Z")
    assert desk.shown == TEXT
    begun = desk.network.begun
    desk.network.allow(1000)
    desk.rest()
    assert desk.network.begun <= begun + 1
    assert desk.shown == TEXT


def test_what_is_saved_meanwhile_is_the_users_own_text(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "ein Brief – ä.txt"
    file.write_bytes(TEXT.replace("\n", "\r\n").encode())
    desk.window.open(file)
    desk.begin()
    desk.select(0)
    desk.type("Oh! ")
    desk.press("Ctrl+S")
    assert file.read_bytes() == ("Oh! " + TEXT).replace("\n", "\r\n").encode()
    assert "░" in desk.shown
    desk.press("Esc")
    assert not desk.editor.document().isModified()


def test_a_missing_artifact_is_told_and_the_model_stays(desk: Desk) -> None:
    desk.window.load("/no/such/artifact")
    desk.until(desk.window.notice.isVisible)
    assert "/no/such/artifact" in desk.window.notice.text.text()
    assert "dream-edge export" in desk.window.notice.text.text()
    assert desk.window._model.text() == "tiny"
    desk.select_text(OLD)
    desk.press("Ctrl+R")
    assert not desk.window.notice.isVisible()
    desk.finish()
    assert desk.editor.plain() != TEXT


def test_whatever_goes_wrong_in_the_thread_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_name: str) -> dream_edge.DreamModel:
        raise RuntimeError("a surprise")

    monkeypatch.setattr(dream_edge, "load", load)
    desk.window.load("tiny")
    desk.until(desk.window.notice.isVisible)
    assert "a surprise" in desk.window.notice.text.text()


def test_without_a_model_it_says_how_to_get_one(desk: Desk, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{}")
    desk.window.load(str(damaged))
    desk.until(desk.window.notice.isVisible)
    assert str(damaged) in desk.window.notice.text.text()
    assert desk.window._model.text() == "No model"
    desk.select_text(OLD)
    desk.press("Ctrl+R")
    desk.until(lambda: "open one" in desk.window.notice.text.text())
    assert desk.shown == TEXT


@pytest.mark.parametrize(
    ("text", "said"), [("an [[0]] hole", "must have 1 to"), (f"[[1]] {'x' * 4000} [[1]]", "context")]
)
def test_what_cannot_be_filled_is_told(desk: Desk, text: str, said: str) -> None:
    desk.editor.setPlainText(text)
    desk.press("Ctrl+Return")
    desk.until(desk.window.notice.isVisible)
    assert said in desk.window.notice.text.text()
    assert desk.editor.plain() == desk.shown == text


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_file_that_is_no_text_is_told(desk: Desk, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    desk.window.open(file)
    assert str(file) in desk.window.notice.text.text()
    assert desk.shown == TEXT


def test_a_file_that_cannot_be_written_is_told(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "gone" / "file.txt"
    file.parent.mkdir()
    file.write_text("text")
    desk.window.open(file)
    desk.type("more ")
    file.unlink()
    file.parent.rmdir()
    assert not desk.window.save()
    assert "another place" in desk.window.notice.text.text()
    assert desk.editor.document().isModified()


def test_unusual_characters_survive_opening_and_saving(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    content = "no\u00a0break, A\u0308 and \u00c4, 😀, tab\t, \u2028 line\n\nend".encode()
    file.write_bytes(content)
    desk.window.open(file)
    desk.select(0)
    desk.type("x")
    assert desk.window.save()
    assert file.read_bytes() == b"x" + content


@pytest.mark.usefixtures("application")
def test_an_empty_draft_takes_no_edit_of_the_users_with_it() -> None:
    from PySide6.QtTest import QTest

    from dream_editor.editor import Editor
    from dream_editor.passage import Hole

    editor = Editor()
    editor.setPlainText("one two")
    QTest.keyClicks(editor, "x")
    editor.begin("xone two", [Hole(5, 5)])
    editor.show_drafts([[]])
    editor.discard()
    assert editor.plain() == "xone two"
    editor.begin("xone two", [Hole(5, 5)])
    editor.finish([""])
    editor.undo()
    assert editor.plain() == "xone two"
    editor.undo()
    assert editor.plain() == "one two"


def test_unsaved_text_is_asked_about(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PySide6.QtWidgets import QMessageBox

    answers = [QMessageBox.StandardButton.Cancel, QMessageBox.StandardButton.Save]
    monkeypatch.setattr(QMessageBox, "warning", lambda *_: answers.pop(0))
    file = tmp_path / "file.txt"
    file.write_text("text")
    desk.window.open(file)
    desk.type("more ")
    assert desk.window.isWindowModified()
    assert not desk.window.close()
    assert desk.window.isVisible()
    assert desk.window.close()
    assert file.read_text() == "more text"
    assert not answers


def test_closing_while_it_computes_stops_it(desk: Desk) -> None:
    desk.begin()
    begun = desk.network.begun
    assert desk.window.close()
    closing = threading.Thread(target=desk.window.writer.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    assert desk.network.begun <= begun + 1
    desk.rest(0.05)
    assert desk.editor.plain() == TEXT
    assert not any(thread.name.startswith("dream-edge") for thread in threading.enumerate())


def test_closing_while_it_loads_waits_for_it_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = threading.Event()

    def load(_name: str) -> dream_edge.DreamModel:
        loading.set()
        time.sleep(0.3)
        raise MemoryError

    monkeypatch.setattr(dream_edge, "load", load)
    desk.window.load("tiny")
    assert loading.wait(10)
    desk.select_text(OLD)
    desk.press("Ctrl+R")
    assert desk.window.close()
    desk.window.writer.close()
    desk.rest(0.05)
    assert desk.shown == TEXT

"""The desktop editor: what goes wrong, files, and the end of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import dream_edge
from support.desk import OLD, TEXT, Desk

pytestmark = pytest.mark.slow


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
    (damaged / "manifest.json").write_text("{}", "utf-8")
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
    file.write_text("text", "utf-8")
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
    file.write_text("text", "utf-8")
    desk.window.open(file)
    desk.type("more ")
    assert desk.window.isWindowModified()
    assert not desk.window.close()
    assert desk.window.isVisible()
    assert desk.window.close()
    assert file.read_text("utf-8") == "more text"
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

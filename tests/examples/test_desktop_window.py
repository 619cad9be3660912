"""The desktop editor: what is written in its text, and what the user does meanwhile."""

from __future__ import annotations

import random
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import dream_edge
from support.desk import OLD, TEXT, Desk

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

pytestmark = pytest.mark.slow


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
    desk.step_to(2)
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
            desk.step_to(2)
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

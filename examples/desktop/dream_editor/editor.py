"""A text field that shows drafts in the midst of the user's own text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QColor, QFocusEvent, QInputMethodEvent, QKeyEvent, QTextCharFormat, QTextCursor, QTextDocument
from PySide6.QtWidgets import QPlainTextEdit

from .draft import Place, Places, after_edit, difference, to_own, to_shown
from .passage import Hole
from .writer import Draft, Run, State

_FREE = Qt.TextInteractionFlag.TextEditorInteraction
_GUARDED = Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard


class Editor(QPlainTextEdit):
    """Drafts are one edit on top of the undo stack, taken back before anything else happens to the text.

    So undo, the mark of unsaved changes and the saved file know the user's own edits and finished texts, never a draft.
    While drafts are shown Qt lets nobody edit; what the user types comes in through `own_text`.
    """

    touched = Signal()
    """An edit has reached into what is being written. The edit stands, the drafts are gone."""

    def __init__(self) -> None:
        super().__init__()
        self._places: Places = ()
        self._drafts: Sequence[Draft] = ()
        self._is_aside = False  # whether the drafts are out of the text for a moment
        self._own: Sequence[int] = ()  # the text then
        self.document().contentsChange.connect(self._follow)

    # --- the user's own text -----------------------------------------------------------------------------------------

    @contextmanager
    def own_text(self) -> Iterator[None]:
        """Takes the drafts out of the text for as long as that is edited or read."""
        if not self._places or self._is_aside:
            yield
            return
        scrolled = self.verticalScrollBar().value()
        self._take_back()
        self._own, self._is_aside = self._units(), True
        try:
            yield
        finally:
            self._is_aside = False
            if self._places:
                self._put_in()
                self.verticalScrollBar().setValue(scrolled)

    def plain(self) -> str:
        with self.own_text():  # toPlainText would make spaces of no-break spaces
            return self.document().toRawText().replace("\u2029", "\n")

    def chosen(self) -> tuple[str, int, int]:
        """The text, and where its selection starts and stops."""
        text = self.plain()
        units, cursor = text.encode("utf-16-le", "surrogatepass"), self.textCursor()  # Qt counts units of UTF-16
        before, chosen = (
            len(units[2 * start : 2 * stop].decode("utf-16-le", "surrogatepass"))
            for start, stop in ((0, cursor.selectionStart()), (cursor.selectionStart(), cursor.selectionEnd()))
        )
        return text, before, before + chosen

    def keyPressEvent(self, event: QKeyEvent) -> None:
        with self.own_text():
            super().keyPressEvent(event)

    def inputMethodEvent(self, event: QInputMethodEvent) -> None:
        with self.own_text():
            super().inputMethodEvent(event)

    def undo(self) -> None:
        with self.own_text():
            super().undo()

    def redo(self) -> None:
        with self.own_text():
            super().redo()

    def _follow(self, at: int, removed: int, added: int) -> None:
        if self._is_aside and self._places:
            before, self._own = self._own, self._units()
            skipped, removed, added = difference(before[at : at + removed], self._own[at : at + added])
            self._places = after_edit(self._places, at + skipped, removed, added) or ()
            if not self._places:
                self.touched.emit()

    def _units(self) -> Sequence[int]:
        """The text in the units of UTF-16 that Qt counts, to see what changed: Qt may name a whole paragraph."""
        return memoryview(self.document().toRawText().encode("utf-16-le", "surrogatepass")).cast("H")

    # --- the drafts --------------------------------------------------------------------------------------------------

    def begin(self, text: str, holes: Sequence[Hole]) -> None:
        """From now on the `holes` in `text`, which is that of `chosen`, show drafts."""
        self._places = tuple(Place(_length(text[: hole.start]), _length(text[: hole.stop]), 0) for hole in holes)
        self._drafts = [[Run(text[hole.start : hole.stop], "masked")] for hole in holes]
        cursor = self.textCursor()
        cursor.setPosition(self._places[-1].stop)
        self.setTextCursor(cursor)
        self._put_in()

    def show_drafts(self, drafts: Sequence[Draft]) -> None:
        with self.own_text():
            self._drafts = drafts

    def finish(self, texts: Sequence[str]) -> None:
        """Put the finished `texts` in place of the drafts: one step of undo, however many there are."""
        self._take_back()
        self._replace([[Run(text, "settled")] for text in texts])
        self._places = ()

    def discard(self) -> None:
        """The text is the user's own again."""
        if self._places:
            self._take_back()
            self._places = ()

    def _put_in(self) -> None:
        anchor, position = self.textCursor().anchor(), self.textCursor().position()
        self._replace(self._drafts, self._formats())
        self._select(to_shown(self._places, anchor), to_shown(self._places, position))
        self._set_flags(_GUARDED)

    def _take_back(self) -> None:
        cursor = self.textCursor()
        anchor, position = to_own(self._places, cursor.anchor()), to_own(self._places, cursor.position())
        self.document().undo()
        self.document().clearUndoRedoStacks(QTextDocument.Stacks.RedoStack)  # nobody wants a draft back
        self._select(anchor, position)
        self._set_flags(_FREE)

    def _replace(self, drafts: Sequence[Draft], formats: Mapping[State, QTextCharFormat] | None = None) -> None:
        """Put `drafts` where the user's own text is, in one step of undo, and note how long they are."""
        edit, plain = QTextCursor(self.document()), QTextCharFormat()
        places: list[Place] = []
        edit.beginEditBlock()
        for place, draft in zip(reversed(self._places), reversed(drafts), strict=True):  # so that positions stay
            edit.setPosition(place.start)
            edit.setPosition(place.stop, QTextCursor.MoveMode.KeepAnchor)
            edit.removeSelectedText()
            for run in draft:
                edit.insertText(run.text, formats[run.state] if formats else plain)
            places.insert(0, Place(place.start, place.stop, edit.position() - place.start))
        edit.insertText(" ")
        edit.deletePreviousChar()  # or Qt would count what is typed next to this step, and an empty draft as none
        edit.endEditBlock()
        self._places = tuple(places)

    def _formats(self) -> dict[State, QTextCharFormat]:
        """Colours of the system's palette, light or dark as it is now."""
        palette = self.palette()
        accent, settled = palette.highlight().color(), QColor(palette.highlight().color())
        settled.setAlphaF(0.2)
        formats: dict[State, QTextCharFormat] = {name: QTextCharFormat() for name in ("masked", "fresh", "settled")}
        formats["masked"].setForeground(accent)
        formats["masked"].setBackground(settled)
        formats["fresh"].setForeground(palette.highlightedText())
        formats["fresh"].setBackground(accent)
        formats["settled"].setBackground(settled)
        return formats

    def _select(self, anchor: int, position: int) -> None:
        cursor = self.textCursor()
        cursor.setPosition(anchor)
        cursor.setPosition(position, QTextCursor.MoveMode.KeepAnchor)
        self.setTextCursor(cursor)

    def _set_flags(self, flags: Qt.TextInteractionFlag) -> None:
        self.setTextInteractionFlags(flags)
        if self.hasFocus():
            self.focusInEvent(QFocusEvent(QEvent.Type.FocusIn))  # shows the caret, which setting flags hides


def _length(text: str) -> int:
    """As Qt counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2

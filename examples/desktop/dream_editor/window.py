"""The window: commands, files, and what the model is doing."""

from __future__ import annotations

import logging
from pathlib import Path

from PySide6.QtCore import QTimer
from PySide6.QtGui import QCloseEvent, QKeySequence, QShowEvent
from PySide6.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QLabel,
    QMainWindow,
    QMessageBox,
    QProgressBar,
    QSpinBox,
    QToolBar,
    QVBoxLayout,
    QWidget,
)

from .editor import Editor
from .files import TextFile
from .notice import Notice
from .passage import Passage, filling, inserting, rewriting
from .writer import Draft, Job, Writer

_log = logging.getLogger(__name__)

_HINT = """Select some words and press Ctrl+R: they are rewritten in place.
Ctrl+Return fills holes such as [[3]], of three tokens, or else writes at the caret.
You can go on typing elsewhere meanwhile. Esc stops, Ctrl+Z takes it back."""


class Window(QMainWindow):
    """One text, one model, one job at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._file: TextFile | None = None
        self._job: Job | None = None
        self.editor, self.notice, self.writer = Editor(), Notice(), Writer()
        self._make_commands()
        self._arrange()
        self.editor.touched.connect(self.stop)
        self.editor.document().modificationChanged.connect(self.setWindowModified)
        self.writer.loaded.connect(self._on_loaded)
        self.writer.stepped.connect(self._on_step)
        self.writer.written.connect(self._on_written)
        self.writer.failed.connect(self._on_failure)
        self._forget_file()

    # --- what the model does -----------------------------------------------------------------------------------------

    def load(self, name: str) -> None:
        self.stop()
        self._model.setText(f"Loading {name} …")
        self.writer.load(name)

    def rewrite(self) -> None:
        """Rewrite the selected words."""
        self._begin(rewriting(*self.editor.chosen()), "Select the words to rewrite.")

    def fill(self) -> None:
        """The holes of the selection or of the whole text, or else a gap at the caret."""
        text, start, stop = self.editor.chosen()
        found = filling(text, start, stop)
        if found is None and start == stop:
            found = inserting(text, start, self.length.value())
        self._begin(found, "There is no hole such as [[3]] in the selection.")

    def stop(self) -> None:
        """The model stops within a step; the text is the user's own at once."""
        if self._job:
            self._job.cancel.set()
            self._end()
            self.editor.discard()

    def _begin(self, passage: Passage | None, hint: str) -> None:
        if passage is None:
            self.notice.tell(hint)
            return
        self.notice.hide()
        self._job = Job(passage, self.surprise.value())
        self.editor.begin(passage.text, passage.holes)
        self._set_busy(True)
        self.writer.write(self._job)

    def _end(self) -> None:
        self._job = None  # what its thread still tells is of no interest
        self._set_busy(False)

    def _set_busy(self, is_busy: bool) -> None:
        self._stop.setEnabled(is_busy)
        self._rewrite.setEnabled(not is_busy)
        self._fill.setEnabled(not is_busy)
        self._progress.setVisible(is_busy)
        self._progress.setRange(0, 0)  # busy, until there is a step

    def _on_loaded(self) -> None:
        _log.info("model loaded")
        self._model.setText(self.writer.name)

    def _on_step(self, job: Job, drafts: list[Draft], progress: float) -> None:
        if job is self._job:
            self.editor.show_drafts(drafts)
            self._progress.setRange(0, 100)
            self._progress.setValue(round(100 * progress))

    def _on_written(self, job: Job, texts: list[str]) -> None:
        if job is self._job:
            self._end()
            self.editor.finish(texts)
            _log.info("text written")

    def _on_failure(self, job: Job | None, message: str) -> None:
        if job is None:
            self._model.setText(self.writer.name or "No model")
        elif job is not self._job:
            return
        self.stop()
        self.notice.tell(message)

    # --- files -------------------------------------------------------------------------------------------------------

    def open(self, path: Path) -> None:
        try:
            file, text = TextFile.read(path)
        except (OSError, UnicodeError) as error:
            self.notice.tell(f"{path} is no text that can be read: {error}. Open a file in UTF-8.")
            return
        self.stop()
        self.editor.setPlainText(text)
        self._remember(file)

    def save(self) -> bool:
        if self._file is None:
            return self._save_as()
        return self._write(self._file)

    def _write(self, file: TextFile) -> bool:
        try:
            file.write(self.editor.plain())
        except OSError as error:
            self.notice.tell(f"{file.path} could not be written: {error}. Save it in another place.")
            return False
        with self.editor.own_text():
            self._remember(file)
        return True

    def _save_as(self) -> bool:
        path, _ = QFileDialog.getSaveFileName(self, "Save as")
        return bool(path) and self._write(TextFile(Path(path)))

    def _ask_and_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open")
        if path and self._may_leave_text():
            self.open(Path(path))

    def _ask_and_load(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "Open a model: the directory of an artifact"):
            self.load(path)

    def _start_afresh(self) -> None:
        if self._may_leave_text():
            self.stop()
            self.editor.clear()
            self._forget_file()

    def _remember(self, file: TextFile) -> None:
        self._file = file
        self.setWindowTitle(f"{file.path.name}[*]")
        self.editor.document().setModified(False)

    def _forget_file(self) -> None:
        self._file = None
        self.setWindowTitle("Untitled[*]")
        self.editor.document().setModified(False)

    def _may_leave_text(self) -> bool:
        with self.editor.own_text():
            is_unsaved = self.editor.document().isModified()
        if not is_unsaved:
            return True
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.warning(
            self, "Unsaved text", "Save the changes to this text?", buttons.Save | buttons.Discard | buttons.Cancel
        )
        return self.save() if answer == buttons.Save else answer == buttons.Discard

    # --- the window itself -------------------------------------------------------------------------------------------

    def _make_commands(self) -> None:
        keys, editor = QKeySequence.StandardKey, self.editor
        file, edit, model = (self.menuBar().addMenu(name) for name in ("&File", "&Edit", "&Model"))
        file.addAction("&New", keys.New, self._start_afresh)
        file.addAction("&Open …", keys.Open, self._ask_and_open)
        file.addAction("&Save", keys.Save, self.save)
        file.addAction("Save &as …", keys.SaveAs, self._save_as)
        file.addAction("&Quit", keys.Quit, self.close)
        edit.addAction("&Undo", keys.Undo, editor.undo)
        edit.addAction("&Redo", keys.Redo, editor.redo)
        edit.addSeparator()
        self._rewrite = edit.addAction("Re&write", "Ctrl+R", self.rewrite)
        self._fill = edit.addAction("&Fill", "Ctrl+Return", self.fill)
        self._stop = edit.addAction("S&top", "Esc", self.stop)
        model.addAction("&Open …", "Ctrl+Shift+O", self._ask_and_load)
        model.addAction("&Tiny", lambda: self.load("tiny"))

    def _arrange(self) -> None:
        self.length = QSpinBox(minimum=1, maximum=64, value=4)
        self.surprise = QDoubleSpinBox(maximum=1, singleStep=0.1, decimals=1, value=0.3)
        self.length.setToolTip("Tokens to write at the caret; a token is a short word or part of a long one")
        self.surprise.setToolTip("0 writes what is likeliest, always the same")
        self._model, self._progress = QLabel(), QProgressBar()
        self._progress.setMaximumWidth(160)
        bar = QToolBar("Writing", movable=False)
        bar.addActions([self._rewrite, self._fill, self._stop])
        bar.addSeparator()
        for name, box in (("Length ", self.length), ("  Surprise ", self.surprise)):
            label = QLabel(name)
            label.setBuddy(box)
            bar.addWidget(label)
            bar.addWidget(box)
        self.addToolBar(bar)
        self._model.setIndent(8)
        self.statusBar().addWidget(self._model, 1)
        self.statusBar().addPermanentWidget(self._progress)
        self.editor.setPlaceholderText(_HINT)
        font = self.editor.font()
        font.setPointSize(font.pointSize() + 3)
        self.editor.setFont(font)
        self.editor.document().setDocumentMargin(12)
        centre = QWidget()
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.notice)
        column.addWidget(self.editor)
        self.setCentralWidget(centre)
        self.resize(760, 480)
        self.editor.setFocus()
        self._set_busy(False)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        QTimer.singleShot(0, lambda: _log.info("window shown"))

    def closeEvent(self, event: QCloseEvent) -> None:
        if self._may_leave_text():
            self.stop()
            event.accept()
        else:
            event.ignore()

"""Text files, read and written without changing what the user has not changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QSaveFile


@dataclass(frozen=True)
class TextFile:
    path: Path
    newline: str = "\n"

    @classmethod
    def read(cls, path: Path) -> tuple[TextFile, str]:
        """Raises: OSError, UnicodeError for what is not UTF-8."""
        text = path.read_bytes().decode()
        newline = "\r\n" if "\r\n" in text else "\n"
        return cls(path, newline), text.replace(newline, "\n")

    def write(self, text: str) -> None:
        """The old file stays until the new one is whole.

        Raises: OSError.
        """
        file = QSaveFile(str(self.path))
        if not file.open(QSaveFile.OpenModeFlag.WriteOnly):
            raise OSError(file.errorString())
        file.write(text.replace("\n", self.newline).encode())
        if not file.commit():
            raise OSError(file.errorString())

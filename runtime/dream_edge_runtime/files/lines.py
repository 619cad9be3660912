"""A file that grows by lines: each is in it whole or not at all, whenever the program is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import NotWritable
from .lock import hold_lock
from .writing import explain_write_errors

_REMEDY = "What it holds stays; run the same command again."


class Lines:
    """An open file of lines; `there` are those that it held when it was opened, without their ends."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path: Path = path
        self.there: list[bytes] = []
        self._file = file
        whole = 0
        for data in file:
            if not data.endswith(b"\n"):  # it was not written to its end, and is cut off when the next is added
                break
            self.there.append(data[:-1])
            whole += len(data)
        self._whole = whole

    def add(self, line: bytes) -> None:
        """Write a line, and have it on the disk."""
        with explain_write_errors(self.path, _REMEDY):
            self._file.truncate(self._whole)
            self._file.seek(self._whole)
            self._file.write(line + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self._whole += len(line) + 1


@contextmanager
def open_lines(path: Path) -> Iterator[Lines]:
    """The lines at `path`, kept from other processes while the block runs. Nothing is changed until one is added.

    Raises:
        OutputBusy: another process is writing there.
        NotWritable: the place or the disk does not allow it.
    """
    if path.exists() and not path.is_file():
        raise NotWritable(path, "it is no file, to which another run could add", "Name a file.")
    lock = path.with_name(f".{path.name}.lock")
    with ExitStack() as opened:
        with explain_write_errors(path, _REMEDY):
            opened.enter_context(hold_lock(lock, path))
            opened.callback(lock.unlink, missing_ok=True)
            lines = Lines(path, opened.enter_context(path.open("r+b" if path.exists() else "x+b")))
        yield lines

"""The file of results: a line is in it whole or not at all, whenever the program is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from dream_edge_runtime.errors import NotWritable
from dream_edge_runtime.files.lock import hold_lock
from dream_edge_runtime.files.writing import explain_write_errors

from .answers import Answer
from .errors import MismatchedResults
from .requests import Line

_ID = "batch_req_"
_REMEDY = "What it holds stays; run the same command again."


class Results:
    """An open file of results, to which lines are added; `done` are the numbers of the requests it answers.

    Raises:
        MismatchedResults: it holds something else.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path: Path = path
        self.done: dict[int, str | None] = {}
        self._file = file
        whole = 0
        for number, data in enumerate(file, 1):
            if not data.endswith(b"\n"):  # it was not written to its end, and is cut off
                break
            self._read(number, data)
            whole += len(data)
        file.truncate(whole)
        file.seek(whole)

    def check(self, line: Line) -> None:
        """Raises MismatchedResults where the answer to this line is an answer to another request."""
        there = self.done.get(line.number, line.custom_id)
        if there != line.custom_id:
            raise MismatchedResults(self.path, line.number, f"answers {there!r}, not {line.custom_id!r}")

    def add(self, answer: Answer) -> None:
        """Write a line, and have it on the disk."""
        result = {
            "id": f"{_ID}{answer.number}",
            "custom_id": answer.custom_id,
            "response": {"status_code": answer.status, "request_id": f"req_{answer.number}", "body": answer.body},
            "error": None,
        }
        with explain_write_errors(self.path, _REMEDY):
            self._file.write(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self.done[answer.number] = answer.custom_id

    def _read(self, number: int, data: bytes) -> None:
        try:
            entry = json.loads(data)
            request = int(entry["id"].removeprefix(_ID))
            custom_id = entry["custom_id"]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise MismatchedResults(self.path, number, "is no result of a batch") from None
        if request in self.done:
            raise MismatchedResults(self.path, number, f"answers line {request} a second time")
        self.done[request] = custom_id


@contextmanager
def open_results(path: Path) -> Iterator[Results]:
    """The results at `path`, kept from other processes while the block runs.

    Raises:
        OutputBusy: another process is writing there.
        MismatchedResults: it holds something else.
        NotWritable: the place or the disk does not allow it.
    """
    if path.exists() and not path.is_file():
        raise NotWritable(path, "it is no file, to which another run could add", "Name a file.")
    lock = path.with_name(f".{path.name}.lock")
    with ExitStack() as opened:
        with explain_write_errors(path, _REMEDY):
            opened.enter_context(hold_lock(lock, path))
            opened.callback(lock.unlink, missing_ok=True)
            results = Results(path, opened.enter_context(path.open("r+b" if path.exists() else "x+b")))
        yield results

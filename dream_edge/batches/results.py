"""The file of results: a line is in it whole or not at all, whenever the program is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from dream_edge_runtime.files.lock import hold_lock

from .answers import Answer
from .errors import MismatchedResults, ResultsNotWritable
from .requests import Line

_ID = "batch_req_"


class Results:
    """An open file of results, to which lines are added; `done` are the numbers of the requests it answers."""

    def __init__(self, path: Path) -> None:
        self.path, self.done = path, dict[int, str | None]()
        self._file: BinaryIO = path.open("r+b" if path.exists() else "x+b")
        try:
            self._recover()
        except BaseException:
            self._file.close()
            raise

    def check(self, line: Line) -> None:
        """Raises MismatchedResults where the answer that is there is not that of `line`."""
        if self.done.get(line.number, line.custom_id) != line.custom_id:
            raise MismatchedResults(
                self.path, line.number, f"answers {self.done[line.number]!r}, not {line.custom_id!r}"
            )

    def add(self, answer: Answer) -> None:
        """Write a line, and see that it is on the disk."""
        result = {
            "id": f"{_ID}{answer.number}",
            "custom_id": answer.custom_id,
            "response": {"status_code": answer.status, "request_id": f"req_{answer.number}", "body": answer.body},
            "error": None,
        }
        data = json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ResultsNotWritable(self.path, error.strerror or str(error)) from None
        self.done[answer.number] = answer.custom_id

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def _recover(self) -> None:
        """Read what is there; cut off a last line that was not written to its end."""
        whole = 0
        for number, data in enumerate(self._file, 1):
            if not data.endswith(b"\n"):
                break
            self._remember(number, data)
            whole += len(data)
        self._file.truncate(whole)
        self._file.seek(whole)

    def _remember(self, number: int, data: bytes) -> None:
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
        ResultsNotWritable: the place or the disk does not allow it.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        with hold_lock(lock, path), Results(path) as results:
            try:
                yield results
            finally:
                lock.unlink(missing_ok=True)
    except OSError as error:
        if error.filename is None:
            raise
        raise ResultsNotWritable(path, error.strerror or str(error)) from None

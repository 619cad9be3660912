"""The file of results: which requests it answers, and a line for each answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dream_edge_runtime.files.lines import Lines, open_lines

from .answers import Answer
from .errors import MismatchedResults
from .requests import Line

_ID = "batch_req_"


class Results:
    """An open file of results, to which lines are added; `done` are the numbers of the requests it answers.

    Raises:
        MismatchedResults: it holds something else.
    """

    def __init__(self, lines: Lines) -> None:
        self.path: Path = lines.path
        self.done: dict[int, str | None] = {}
        self._lines = lines
        for number, data in enumerate(lines.there, 1):
            self._read(number, data)

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
        self._lines.add(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode())
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
    with open_lines(path) as lines:
        yield Results(lines)

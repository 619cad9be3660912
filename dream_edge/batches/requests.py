"""The lines of a batch: requests, or what keeps a line from being one."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from dream_edge.openai.errors import RequestRefused
from dream_edge.openai.validation import parse_body
from dream_edge_runtime.files.writing import explain_write_errors

from .errors import UnreadableBatch

LONGEST_LINE = 1 << 24
FIELDS = ("custom_id", "method", "url", "body")


@dataclass(frozen=True)
class Line:
    """One request of a batch.

    Attributes:
        number: counted from 1, empty lines included.
        refused: why it is no request; `url` and `body` are empty then.
    """

    number: int
    custom_id: str | None
    url: str = ""
    body: Any = None
    refused: RequestRefused | None = None


@dataclass(frozen=True)
class Remaining:
    """The requests of the batch at `path` but those whose numbers are `answered`.

    Iterating reads them from the file, each as its number and its bytes: for `parse`, wherever that is to happen.
    """

    path: Path
    answered: Container[int]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return ((number, data) for number, data in _raw_lines(self.path) if number not in self.answered)


@contextmanager
def keep_requests(path: Path) -> Iterator[Path]:
    """`path`; a pipe, such as /dev/stdin, is read into a file first, since a batch is read several times.

    Raises: UnreadableBatch; NotWritable, there is no room for the file.
    """
    if not path.is_fifo():
        yield path
        return
    with ExitStack() as kept:
        with explain_write_errors(Path(gettempdir())):
            copy = Path(kept.enter_context(TemporaryDirectory(prefix="dream-edge-"))) / f"{path.name}.jsonl"
            with path.open("rb") as pipe, copy.open("xb") as file:
                copyfileobj(pipe, file)
        yield copy


def read_lines(path: Path) -> Iterator[Line]:
    """Every line of `path` that is not empty.

    Raises:
        UnreadableBatch: it cannot be read, or two lines have the same custom_id.
    """
    seen: dict[str, int] = {}
    for number, data in _raw_lines(path):
        line = parse(number, data)
        if line.custom_id is not None:
            first = seen.setdefault(line.custom_id, number)
            if first != number:
                raise UnreadableBatch(path, f"lines {first} and {number} have the same custom_id")
        yield line


def count_requests(path: Path) -> int:
    """Lines of `path` that are to be answered. Raises UnreadableBatch as `read_lines` does."""
    return sum(1 for _ in read_lines(path))


def parse(number: int, data: bytes) -> Line:
    """The request in `data`, or why it is not one."""
    custom_id = None
    try:
        entry = parse_body(data)
        named = entry.get("custom_id")
        if not isinstance(named, str) or not named:
            raise RequestRefused("custom_id is missing: a text that tells the lines apart.", param="custom_id")
        custom_id = named
        unknown = next((name for name in entry if name not in FIELDS), None)
        if unknown is not None:
            raise RequestRefused(f"there is no field {unknown!r:.80}. Fields: {', '.join(FIELDS)}.", param=unknown)
        if entry.get("method", "POST") != "POST":
            raise RequestRefused("method must be POST.", param="method")
        url = entry.get("url")
        if not isinstance(url, str):
            raise RequestRefused("url is missing: /v1/chat/completions, say.", param="url")
        return Line(number, custom_id, url, entry.get("body"))
    except RequestRefused as refused:
        return Line(number, custom_id or _find_id(data), refused=refused)


def _find_id(data: bytes) -> str | None:
    """The custom_id of a line that is bad JSON by a strict reading only, so that its error can be matched to it."""
    with suppress(ValueError, RecursionError, AttributeError):
        named = json.loads(data.decode(errors="replace")).get("custom_id")
        if isinstance(named, str) and named.encode():
            return named
    return None


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if path.exists() and not path.is_file():
        raise UnreadableBatch(path, "is no file: a directory, a device or a terminal")
    try:
        with path.open("rb") as file:
            for number, data in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
                if len(data) >= LONGEST_LINE:
                    raise UnreadableBatch(path, f"line {number} has more than {LONGEST_LINE >> 20} MB")
                if data.strip():
                    yield number, data
    except OSError as error:
        if isinstance(error, UnreadableBatch):
            raise
        raise UnreadableBatch(path, f"cannot be read ({error.strerror})") from None

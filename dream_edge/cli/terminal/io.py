"""What the verbs say and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

import typer


def note(text: str) -> None:
    """A line for the user, on stderr."""
    typer.echo(text, err=True)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(printable(record.getMessage()))


@contextmanager
def log_as_notes() -> Iterator[None]:
    """Show what the packages log from level INFO on, a line each, until the block ends."""
    loggers = [logging.getLogger(name) for name in ("dream_edge", "dream_edge_export", "dream_edge_runtime")]
    levels = [logger.level for logger in loggers]
    handler = _Notes()
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


@contextmanager
def hide_log(name: str) -> Iterator[None]:
    """Leave out what the package `name` logs as information, until the block ends."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def print_text(text: str) -> None:
    """A generated text on stdout; on a terminal without the control characters that could steer it."""
    typer.echo(printable(text) if is_terminal(sys.stdout) else text)


def printable(text: str) -> str:
    return "".join("�" if is_control(each) else each for each in text)


def is_control(character: str) -> bool:
    """C0 and C1, but line ends and tabs."""
    return (ord(character) < 0x20 and character not in "\n\t") or 0x7F <= ord(character) < 0xA0


def is_terminal(stream: TextIO) -> bool:
    """Whether `stream` is a terminal on which lines can be drawn again."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def read_stdin() -> str:
    """All of standard input, which must be UTF-8, after a byte order mark if there is one."""
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"standard input is not UTF-8 (at byte {error.start})") from None

"""What the verbs say and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import typer


def note(text: str) -> None:
    """A line for the user, on stderr."""
    typer.echo(text, err=True)


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
    """All of standard input, which must be UTF-8."""
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"standard input is not UTF-8 (at byte {error.start})") from None


def size(count: float) -> str:
    """Bytes, as people write them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def number(count: float) -> str:
    """Parameters, as people write them."""
    for unit, factor in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """Roughly how long, as people say it."""
    if seconds < 1:
        return "a second"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of even width: the first to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

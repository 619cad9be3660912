"""Two texts with what differs between them marked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

_WORDS = re.compile(r"\s+|\w+|[^\w\s]", re.UNICODE)
LONGEST = 2000
"""Words of a text that are compared; comparing takes the square of it."""


@dataclass(frozen=True)
class Piece:
    text: str
    differs: bool


def marked(reference: str, artifact: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces; those that the other does not have at that place differ."""
    ours, theirs = _WORDS.findall(reference)[:LONGEST], _WORDS.findall(artifact)[:LONGEST]
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, *(begin, end, start, stop) in matcher.get_opcodes():
        left += _piece(ours[begin:end], kind != "equal")
        right += _piece(theirs[start:stop], kind != "equal")
    return left, right


def _piece(words: list[str], differs: bool) -> Iterator[Piece]:
    if words:
        yield Piece("".join(words), differs)

"""From a text and a selection in it to what the model is asked to write. No Qt and no model: only text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

REACH = 800
"""How many characters before the first hole and after the last one the model sees: enough to go by, quick to read."""

_MARKED = re.compile(r"\[\[(\d{1,4})\]\]")


@dataclass(frozen=True)
class Hole:
    """The characters from `start` up to `stop`, to be rewritten in `size` tokens."""

    start: int
    stop: int
    size: int | None = None
    """None = as many tokens as stand there."""


@dataclass(frozen=True)
class Passage:
    """A text and its holes, in order. There is at least one."""

    text: str
    holes: tuple[Hole, ...]

    def template(self, count: Callable[[str], int]) -> list[str | int]:
        """The pieces for `DreamModel.fill`; `count` tells how many tokens a text has.

        A word brings the space before it, so the model is not shown the space that stands before a hole.
        """
        begin, end = self._seen()
        pieces: list[str | int] = []
        for hole in self.holes:
            size = count(" " + self.text[hole.start : hole.stop]) if hole.size is None else hole.size
            pieces += [self.text[begin : hole.start].removesuffix(" "), size]
            begin = hole.stop
        return [*pieces, self.text[begin:end]]

    def fitted(self, hole: Hole, written: str) -> str:
        """What the model has `written` in the hole, without the space that the text has already."""
        return written.removeprefix(" ") if self.text[: hole.start].endswith(" ") else written

    def filled(self, written: Sequence[str]) -> str:
        """The text with what the model has `written` in its holes. The rest is as it was, to the last character."""
        pieces, begin = [], 0
        for hole, new in zip(self.holes, written, strict=True):
            pieces += [self.text[begin : hole.start], self.fitted(hole, new)]
            begin = hole.stop
        return "".join([*pieces, self.text[begin:]])

    def _seen(self) -> tuple[int, int]:
        """From where to where the model sees the text: whole words."""
        begin = max(0, self.holes[0].start - REACH)
        end = min(len(self.text), self.holes[-1].stop + REACH)
        if begin:
            begin = next((at for at in range(begin, self.holes[0].start) if self.text[at].isspace()), begin)
        if end < len(self.text):
            end = next((at for at in range(end, self.holes[-1].stop, -1) if self.text[at].isspace()), end)
        return begin, end


def rewriting(text: str, start: int, stop: int) -> Passage | None:
    """The selection, grown to whole words, to be rewritten at about its length; None if no word is selected."""
    while start < stop and text[start].isspace():
        start += 1
    while start < stop and text[stop - 1].isspace():
        stop -= 1
    if start == stop:
        return None
    while start and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while stop < len(text) and text[stop - 1].isalnum() and text[stop].isalnum():
        stop += 1
    return Passage(text, (Hole(start, stop),))


def filling(text: str, start: int, stop: int) -> Passage | None:
    """The holes such as [[3]] in the selection, or those of the whole text where nothing is selected; None if none."""
    if start == stop:
        start, stop = 0, len(text)
    found = [Hole(match.start(), match.end(), int(match[1])) for match in _MARKED.finditer(text, start, stop)]
    return Passage(text, tuple(found)) if found else None


def inserting(text: str, at: int, size: int) -> Passage:
    """A gap of `size` tokens at the caret."""
    if text[at : at + 1].isalnum() and text[:at].endswith(" "):
        at -= 1  # the space belongs to the word after it
    return Passage(text, (Hole(at, at, size),))

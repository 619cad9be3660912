"""From a canvas to the text people see."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..arrays import BoolArray, IntArray
from ..text.tokenizer import Tokenizer
from .results import MASK_SYMBOL

CUT_CHARACTER = "\ufffd"
"""What tokens decode to that hold some of a character's bytes."""
_MOST_BYTES = 4  # of a character, and so the most tokens it can be spread over


def character_at(tokenizer: Tokenizer, ids: IntArray, masked: BoolArray, at: int, stop: int) -> tuple[str, int]:
    """The text of the settled token at position `at` of a canvas, and how many tokens before `stop` it takes.

    That is one, unless it takes more to spell the token's last character. U+FFFD where some of them are missing.
    """
    for end in range(at + 1, min(at + _MOST_BYTES, stop) + 1):
        if masked[end - 1]:
            break
        text = tokenizer.decode(ids[at:end])
        if not text.endswith(CUT_CHARACTER):
            return text, end - at
    return tokenizer.decode(ids[at : at + 1]), 1


@dataclass(frozen=True)
class Ending:
    """Where a text ends."""

    text: str
    tokens: int
    """How many of the shown tokens it keeps."""
    stopped: bool
    """Whether anything was cut off."""


@dataclass(frozen=True)
class Reader:
    """Reads a canvas from position `shown_from` to its end. Special tokens are left out of the text.

    The text is cut at the first settled token of `ends`, then before the first of the `stop` strings. Both are empty
    for texts with holes and for fixed endings: a cut there would take what the caller gave.
    """

    tokenizer: Tokenizer
    shown_from: int
    ends: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()

    def text(self, ids: IntArray, masked: BoolArray) -> str:
        """The text of `ids` [length], `MASK_SYMBOL` for each position that is `masked` [length]."""
        return self.ending(ids, masked).text

    def ending(self, ids: IntArray, masked: BoolArray) -> Ending:
        ids, masked = ids[self.shown_from :], masked[self.shown_from :]
        count = len(ids)
        if self.ends:
            ends = np.flatnonzero(np.isin(ids, list(self.ends)) & ~masked)
            count = int(ends[0]) if ends.size else count
        text = self._decode(ids[:count], masked[:count])
        stopped = count < len(ids)
        found = [place for place in map(text.find, self.stop) if place >= 0]
        if found:
            text = text[: min(found)]
            count = self._tokens_of(text, ids[:count], masked[:count])
            stopped = True
        return Ending(text, count, stopped)

    def hole(self, ids: IntArray, hole: range) -> str:
        """The text of one `hole` of the finished canvas `ids` [length]."""
        return self.tokenizer.decode(ids[hole.start : hole.stop])

    def _decode(self, ids: IntArray, masked: BoolArray) -> str:
        """Runs of settled tokens are decoded together, since a character may span several of them."""
        if not len(ids):
            return ""
        bounds = [0, *(np.flatnonzero(np.diff(masked)) + 1).tolist(), len(ids)]
        return "".join(
            MASK_SYMBOL * (stop - start) if masked[start] else self.tokenizer.decode(ids[start:stop])
            for start, stop in pairwise(bounds)
        )

    def _tokens_of(self, text: str, ids: IntArray, masked: BoolArray) -> int:
        """The least number of tokens whose text is as long as `text`."""
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            if len(self._decode(ids[:middle], masked[:middle])) >= len(text):
                high = middle
            else:
                low = middle + 1
        return low

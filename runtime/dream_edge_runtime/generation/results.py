"""What a generation hands back: one `Step` after every denoising step, one `Generation` at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray

MASK_SYMBOL = "░"
"""Stands for a position that is still masked in the text of a step."""


class Reader(Protocol):
    """Turns the canvas of one sequence into text."""

    def text(self, ids: IntArray, masked: BoolArray, holes: Sequence[range]) -> str: ...

    def token_texts(self, ids: IntArray, masked: BoolArray, holes: Sequence[range], place: range) -> list[str]: ...


@dataclass(frozen=True)
class Step:
    """The canvas after one denoising step.

    Positions are those of the sequence's whole canvas, prompt included, counted from 0.
    """

    index: int
    """Which step, from 1."""
    steps: int
    """How many are planned. The last may come sooner: a generation ends when nothing is masked any more."""
    ids: IntArray
    """[length] the canvas: prompt, revealed tokens, and the mask id where masked."""
    masked: BoolArray
    """[length] which positions are still masked."""
    shown: range
    """The positions `text` shows: the new part, or everything for infill and fill."""
    holes: tuple[range, ...]
    """The positions that were to be generated."""
    revealed: IntArray
    """Positions revealed at this step, best first."""
    confidence: FloatArray
    """[revealed] probabilities of their tokens, after temperature and filters, whatever the algorithm ranks by."""
    progress: float
    """The share of the holes' positions that is revealed, 0 to 1. Falls where holes grow."""
    _reader: Reader = field(repr=False, compare=False)
    moved: IntArray | None = None
    """[length] where each position stood at the step before, -1 where it is new; None = all where they were."""

    @cached_property
    def text(self) -> str:
        """The text so far, `MASK_SYMBOL` for each masked position. Decoded when first asked for."""
        return self._reader.text(self.ids, self.masked, self.holes)

    @cached_property
    def settled(self) -> str:
        """The text before the first mask, which later steps only add to.

        Two ends of it are unsure: half a character (U+FFFD), and the beginning of a stop string.
        """
        masks = np.flatnonzero(self.masked[self.shown.start :])
        end = self.shown.start + int(masks[0]) if masks.size else len(self.ids)
        return self._reader.text(self.ids[:end], self.masked[:end], self.holes)

    def token_texts(self, place: range) -> list[str]:
        """The text of each position of `place`: `MASK_SYMBOL` where masked; a character of several tokens is with the
        first."""
        return self._reader.token_texts(self.ids, self.masked, self.holes, place)


@dataclass(frozen=True)
class Generation:
    """A finished text and how it came about."""

    text: str
    """The new text, cut at the end of the turn and at stop strings; for infill and fill the whole text, holes filled.
    Special tokens are left out."""
    token_ids: tuple[int, ...]
    """The ids `text` is read from, before any cut."""
    prompt_tokens: int
    """Tokens that were given: prompt, template, and the fixed parts of a text with holes."""
    new_tokens: int
    """Generated tokens that the text keeps; what follows the end of the turn does not count."""
    steps: int
    """Denoising steps made."""
    passes: int
    """Forward passes of the network (NFE): a step that reveals nothing needs none."""
    seconds: float
    """From the first step to the last; of the whole batch, for a generation out of a batch."""
    seed: int
    """The seed that was used, also when none was given."""
    finish_reason: Literal["stop", "length"]
    """`stop`: the text ended before its room did. `length`: it used all of it."""
    holes: tuple[str, ...] = ()
    """The text of each hole (infill and fill)."""
    history: tuple[IntArray, ...] | None = field(default=None, repr=False, compare=False)
    """The canvas ids after every step, each [length at that step], when asked for."""

    @property
    def tokens_per_second(self) -> float:
        """New tokens by the time they took; 0 where none was measured."""
        return self.new_tokens / self.seconds if self.seconds > 0 else 0.0

"""Sequences whose length is not fixed: they grow before the first step, change while they are denoised, or end early.

Growing: Li et al., "Beyond Fixed: Variable-Length Denoising for Diffusion Large Language Models" (DAEDAL, arXiv
2508.00819), its first phase: where the last masks are likely to be ends of text, there is room enough. Here the masks
double instead of growing by eight, since every look costs a pass.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..inference.network import Network, Rows
from .canvas import Canvas
from .kv_cache import NoCache
from .logit_bias import NEVER
from .results import CanvasReader
from .schedule import Timestep

IN_SIGHT = 0.5
"""How probable an end of text must be at the last masks, on average (the paper's threshold)."""
MOST_LOOKED_AT = 32
"""How many of the last masks are looked at (the paper's window), but no more than half of them."""


def grow_canvas(
    network: Network, canvas: Canvas, most: Mapping[int, int], ends: frozenset[int], cancel: threading.Event | None
) -> dict[int, int]:
    """Lengthen the sequences of `canvas` that `most` names, which end in their only hole, up to so many masks.

    Returns:
        How many passes each of them took.

    Raises:
        Cancelled: `cancel` was set.
    """
    full = NoCache(network)
    made = dict.fromkeys(most, 0)
    growing = {row for row in most if _masks(canvas, row).size < most[row]}
    while growing:
        asked = {row: _last(_masks(canvas, row)) for row in sorted(growing)}
        for row, rows in full.compute(canvas, {}, asked, 0.0, cancel).items():
            made[row] += 1
            if sum_probabilities(rows, ends).mean() >= IN_SIGHT:
                growing.remove(row)
        for row in sorted(growing):
            size = _masks(canvas, row).size
            counts = np.ones(int(canvas.valid[row].sum()), dtype=np.int64)
            counts[-1] += min(size, most[row] - size)
            canvas.repeat(row, counts)
        growing = {row for row in growing if _masks(canvas, row).size < most[row]}
    return made


def sum_probabilities(rows: Rows, tokens: frozenset[int]) -> FloatArray:
    """How probable each of `rows` is one of `tokens` [rows], as far as the k best tell."""
    among: BoolArray = np.isin(rows.top_ids, list(tokens))
    probability: FloatArray = np.where(among, rows.top_probs, 0).sum(axis=1)
    return probability


def _masks(canvas: Canvas, row: int) -> IntArray:
    return np.flatnonzero(canvas.masked[row])


def _last(masks: IntArray) -> IntArray:
    return masks[-max(1, min(MOST_LOOKED_AT, masks.size // 2)) :]


class LengthChange(Protocol):
    """Changes the length of one sequence of one generation after a step; it may remember earlier ones."""

    def settle(self, canvas: Canvas, row: int, revealed: IntArray) -> IntArray | None:
        """How often to repeat each position of sequence `row` [its length] now that `revealed` [revealed] of them are,
        best first; see `Canvas.repeat`. None = nothing changes."""
        ...


@dataclass
class ElasticHoles:
    """A revealed `<|expand|>` becomes two masks, a revealed end of text is deleted: the model finds the length itself.

    DreamOn (Wu et al., "DreamOn: Diffusion Language Models for Code Infilling Beyond Fixed-Size Canvas"). Where no
    hole may grow any more, `<|expand|>` cannot be drawn: this is also the `LogitBias` that forbids it.
    """

    token: int
    """`<|expand|>`."""
    delete: int
    """The token that deletes its position."""
    most: int
    """How many positions the holes may have together."""
    budget: int
    """How many expansions are left, so that expanding and deleting come to an end."""

    def amount(self, canvas: Canvas, row: int, timestep: Timestep) -> float:
        return 0.0 if self._room(canvas, row) > 0 else NEVER

    def settle(self, canvas: Canvas, row: int, revealed: IntArray) -> IntArray | None:
        tokens = canvas.ids[row, revealed]
        deleted, wide = revealed[tokens == self.delete], revealed[tokens == self.token]
        canvas.mask(row, wide)  # more at once than there is room for: those stay masks
        expanded = wide[: self._room(canvas, row) + deleted.size]
        if not deleted.size and not expanded.size:
            return None
        self.budget -= expanded.size
        counts: IntArray = np.ones(int(canvas.valid[row].sum()), dtype=np.int64)
        counts[deleted - canvas.first[row]] = 0
        counts[expanded - canvas.first[row]] = 2
        return counts

    def _room(self, canvas: Canvas, row: int) -> int:
        return max(0, min(self.budget, self.most - sum(map(len, canvas.holes[row]))))


@dataclass(frozen=True)
class OpenEnd:
    """A text that goes on by a block whenever all of it is settled, until it ends or has `most` new tokens.

    For block-causal networks, where what is not there yet changes nothing. (Upstream lays out all blocks before.)
    """

    reader: CanvasReader
    most: int
    block: int

    def settle(self, canvas: Canvas, row: int, revealed: IntArray) -> IntArray | None:
        ids, masked, holes = canvas.sequence(row), canvas.sequence_masked(row), canvas.holes[row]
        room = self.most - sum(map(len, holes))
        if room <= 0 or masked.any() or self.reader.ending(ids, masked, holes).stopped:
            return None
        counts: IntArray = np.ones(len(ids), dtype=np.int64)
        counts[-1] += min(room, self.block)  # what is there ends with a block
        return counts


@dataclass(frozen=True)
class EndOfText:
    """Done at the first settled token of `ends` among the `shown` positions, once everything before it is settled too.

    The text is cut there, so that nothing that comes later can show. Upstream computes on to the last mask.
    """

    ends: frozenset[int]
    shown_from: int

    def close(self, canvas: Canvas, row: int) -> None:
        """If sequence `row` is done, settle what is left of it as padding."""
        start = canvas.first[row] + self.shown_from
        masked = canvas.masked[row, start:]
        ended = np.flatnonzero(np.isin(canvas.ids[row, start:], list(self.ends)) & ~masked)
        if ended.size and not masked[: ended[0]].any():
            left = start + np.flatnonzero(masked)
            canvas.reveal(row, left, np.full(left.size, canvas.pad_id))

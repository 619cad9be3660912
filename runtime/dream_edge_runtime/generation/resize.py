"""Sequences whose length changes while they are denoised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..arrays import IntArray
from .canvas import Canvas
from .logit_bias import NEVER
from .schedule import Moment


class Resize(Protocol):
    """Changes the length of one sequence of one generation after a step; it may remember earlier ones."""

    def settle(self, canvas: Canvas, row: int, revealed: IntArray) -> IntArray | None:
        """How often each position of sequence `row` is to be there [its length] now that `revealed` [revealed] of them
        are, best first; see `Canvas.repeat`. None = nothing changes."""
        ...


@dataclass
class ElasticHoles:
    """A revealed `<|expand|>` becomes two masks, a revealed end of text is deleted: the model finds the length itself.

    DreamOn (Wu et al., "DreamOn: Diffusion Language Models for Code Infilling Beyond Fixed-Size Canvas"). Where no
    hole may grow any more, `<|expand|>` cannot be drawn. It is at once the bias that sees to that.
    """

    token: int
    """`<|expand|>`."""
    delete: int
    """The token that deletes its position."""
    most: int
    """How many positions the holes may have together."""
    budget: int
    """How many expansions are left, so that expanding and deleting come to an end."""

    def amount(self, canvas: Canvas, row: int, moment: Moment) -> float:
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

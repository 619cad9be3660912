"""One sequence's way through its blocks: which masks it may reveal next, and how far the block's schedule is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, IntArray
from .schedule import Moment, Schedule


@dataclass(frozen=True)
class Turn:
    """What one sequence does at one step."""

    block: int
    """Which block, from 0."""
    positions: IntArray
    """[masked] its masked positions on the canvas, ascending."""
    moment: Moment
    """Where the block's schedule is."""


class Pace:
    """Fills the blocks of one sequence from left to right, each by a schedule of its own.

    A block is a set of positions: `block_length` masks in the order of the canvas, whatever stands between them, so
    that holes are filled in blocks too. Without a length there is one block, and this is the official loop. (Semi-
    autoregressive remasking: Nie et al., "LLaDA", arXiv 2502.09992, section 2.4.)

    Args:
        masked: bool [length] the masks at the start.
        steps: of the whole sequence; they are shared out among the blocks, at least one each.
        eps: where the time of each schedule ends.
        block_length: masks in a block; None = all of them.
    """

    def __init__(self, masked: BoolArray, steps: int, eps: float, block_length: int | None = None) -> None:
        count = int(masked.sum())
        blocks = 1 if block_length is None else max(1, -(-count // block_length))
        rank: IntArray = np.cumsum(masked) - masked  # what stands between two masks belongs to the block of the second
        self.block_of: IntArray = np.minimum(rank // (block_length or max(count, 1)), blocks - 1)
        shares = [steps // blocks + (index < steps % blocks) for index in range(blocks)]
        self._schedules = [list(Schedule(steps=max(share, 1), eps=eps)) for share in shares]
        self.steps = sum(map(len, self._schedules))
        self._made = [0] * blocks

    def follow(self, source: IntArray) -> None:
        """Positions have moved: each of the new ones [length] belongs to the block of the one it comes from."""
        self.block_of = self.block_of[source]

    def next(self, masked: BoolArray) -> Turn | None:
        """The turn that the masks `masked` [length] call for; None when nothing is masked or all steps are made.

        A position that was masked again, by a hook, is revealed with its block's last step.
        """
        positions = np.flatnonzero(masked)
        if not positions.size or sum(self._made) >= self.steps:
            return None
        blocks = self.block_of[positions]
        block = int(blocks.min())
        schedule = self._schedules[block]
        moment = schedule[min(self._made[block], len(schedule) - 1)]
        self._made[block] += 1
        return Turn(block, positions[blocks == block], moment)

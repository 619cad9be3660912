"""The noise schedule, and the blocks of a sequence that each follow one.

The schedule says which share of the masks a denoising step is to reveal. Time runs linearly from 1 to eps. A step from
time t to s reveals each masked position with probability 1 - s/t, as in masked diffusion with a linear schedule (MDLM,
arXiv 2406.07524). Times are rounded once to fp32; shares and counts follow from them in fp32 as upstream, since the
counts are truncated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np

from ..arrays import BoolArray, IntArray
from .canvas import Canvas


@dataclass(frozen=True)
class Timestep:
    """One step of the schedule."""

    index: int
    """Which step, from 0."""
    steps: int
    share: np.float32
    """1 - s/t: the part of the masks to reveal; 1 at the last step."""
    time: np.float32 = np.float32(1)  # noqa: RUF009 - a number, so it can be shared
    """t: where the step begins, from 1 at the start down to eps."""
    masks: int | None = None
    """How many masks the steps share out evenly among them; None: the noise says how many."""
    left: float = 1.0
    """The share of the block's masks that are left."""

    @property
    def last(self) -> bool:
        return self.index == self.steps - 1

    def quota(self, masked: int) -> int:
        """How many of `masked` positions are to be revealed at this step."""
        if self.last:
            return masked
        return (
            int(np.float32(masked) * self.share)
            if self.masks is None
            else share_out(self.masks, self.steps)[self.index]
        )


@cache
def share_out(masks: int, steps: int) -> tuple[int, ...]:
    """How many of `masks` each of `steps` steps reveals: what is left by the steps that are left, rounded.

    In the arithmetic of BD3-LM's loop (Arriola et al., arXiv 2503.09573, in dllm), fp32 and then fp64.
    """
    counts: list[int] = []
    one = np.float32(1)
    for index in range(steps):
        begin, end = (one - (one - np.float32((steps - index - done) / steps)) for done in (0, 1))
        counts.append(round((masks - sum(counts)) * (1 - float(end / begin))))
    return tuple(counts)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`steps` denoising steps, time running from 1 to `eps`; `masks` as a `Timestep` has it."""

    steps: int
    eps: float = 1e-3
    masks: int | None = None

    def __iter__(self) -> Iterator[Timestep]:
        times = np.linspace(1, self.eps, self.steps + 1).astype(np.float32)
        shares = np.float32(1) - times[1:] / times[:-1]
        shares[-1] = 1
        return (Timestep(index, self.steps, share, times[index], self.masks) for index, share in enumerate(shares))


@dataclass(frozen=True)
class BlockStep:
    """What one sequence does at one step."""

    block: int
    """Which block, from 0."""
    positions: IntArray
    """[masked] its masked positions on the canvas, ascending."""
    timestep: Timestep
    """Where the block's schedule is."""


class Blocks(Protocol):
    """How one sequence goes through its masks."""

    steps: int
    """How many steps are planned."""

    def follow(self, source: IntArray) -> None:
        """Positions have moved: each of the new ones [length] comes from one of those before."""
        ...

    def next(self, masked: BoolArray) -> BlockStep | None:
        """The step that the masks `masked` [length] call for; None when nothing is masked or all steps are made."""
        ...


class BlockSchedule:
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
        self._most: dict[int, int] = {}

    def follow(self, source: IntArray) -> None:
        """Each of the new positions belongs to the block of the one it comes from."""
        self.block_of = self.block_of[source]

    def next(self, masked: BoolArray) -> BlockStep | None:
        """A position that was masked again, by a hook, is revealed with its block's last step."""
        positions = np.flatnonzero(masked)
        if not positions.size or sum(self._made) >= self.steps:
            return None
        blocks = self.block_of[positions]
        block = int(blocks.min())
        schedule = self._schedules[block]
        timestep = schedule[min(self._made[block], len(schedule) - 1)]
        self._made[block] += 1
        mine = positions[blocks == block]
        self._most[block] = max(self._most.get(block, 0), mine.size)
        return BlockStep(block, mine, replace(timestep, left=mine.size / self._most[block]))


def number_blocks(places: IntArray, block: int, shift: int, length: int) -> IntArray:
    """To which block each of `places` [any] of a block-causal network belongs; blocks are filled in this order.

    A `length` below that of the network's `block` divides it into smaller ones (Wu et al., "Fast-dLLM v2", arXiv
    2509.26328). Under a shift, the first token of a block is predicted by the last of the block before it, and seen by
    all others: it comes first, alone, as there.
    """
    within = places % block
    part = np.where(within < shift, 0, 1 + within // length)
    numbers: IntArray = places // block * (block + 1) + part
    return numbers


class CausalBlocks:
    """Fills the blocks of one sequence of a block-causal network from left to right, each by a schedule of its own.

    Blocks are those of the network, or smaller ones: see `number_blocks`.

    Args:
        canvas: it may grow.
        row: which sequence.
        block: how many positions the network's blocks have.
        offset: how many positions before the first token the first block begins.
        steps: of each block of `length`; None = one for each mask.
        eps: where the time of each schedule ends.
        length: masks in a block; None = all of the network's.
    """

    def __init__(
        self, canvas: Canvas, row: int, block: int, offset: int, *, steps: int | None, eps: float, length: int | None
    ) -> None:
        self._canvas, self._row, self._block, self._offset = canvas, row, block, offset
        self._most, self._eps, self._length = steps, eps, length or block
        self._schedules: dict[int, list[Timestep]] = {}
        self._made: dict[int, int] = {}
        self.steps: int = 0

    def follow(self, source: IntArray) -> None:
        pass  # a position's place says which block it belongs to

    def next(self, masked: BoolArray) -> BlockStep | None:
        """As of a `BlockSchedule`; here, each block that begins adds its steps to those that are planned."""
        positions = np.flatnonzero(masked)
        if not positions.size:
            return None
        places = positions - self._canvas.first[self._row] + self._offset
        blocks = number_blocks(places, self._block, self._canvas.shift, self._length)
        block = int(blocks.min())
        mine = positions[blocks == block]
        if block not in self._schedules:
            masks = mine.size if self._most is None else min(self._length, self._block)
            self._schedules[block] = list(Schedule(steps=min(self._most or masks, masks), eps=self._eps, masks=masks))
            self._made[block] = 0
            self.steps += len(self._schedules[block])
        if sum(self._made.values()) >= self.steps:
            return None
        schedule = self._schedules[block]
        timestep = schedule[min(self._made[block], len(schedule) - 1)]
        self._made[block] += 1
        return BlockStep(block, mine, replace(timestep, left=min(1.0, mine.size / (timestep.masks or mine.size))))

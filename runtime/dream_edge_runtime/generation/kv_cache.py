"""What one step asks of the network: which positions are computed, and whose keys and values are remembered.

When a sequence enters a block, one pass computes everything it can see; until the block is done, only the block (and
what else the kind of cache keeps fresh) is computed again. No token outside of it changes meanwhile, but the remembered
keys and values are those of a canvas whose block was still masked, so this is an approximation: Wu et al., "Fast-dLLM"
(arXiv 2505.22618), section 3.2.

The hidden state that predicts a position is the one before it. It is computed with the block, so that the shift is
exact; the reference implementation commits the first token of a block unconditionally instead.

Logits of a pass that took something from memory are marked (`Rows.fresh`), so that callers can decline to reveal from
stale keys.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..arrays import BoolArray, IntArray
from ..inference.network import KeyValues, Network, Rows, attended_keys
from ..inference.together import PassRequest, forward_together
from .canvas import Canvas
from .config import CacheKind
from .schedule import BlockStep


class KvCache(Protocol):
    """Computes the logits of a step. Belongs to one generation, so that it may remember earlier steps."""

    def compute(
        self,
        canvas: Canvas,
        block_steps: Mapping[int, BlockStep],
        asked: Mapping[int, IntArray],
        temperature: float,
        cancel: threading.Event | None,
    ) -> dict[int, Rows]:
        """Rows for the masked positions `asked` [asked] of each sequence, by its row; none is empty.

        Raises:
            Cancelled: `cancel` was set.
        """
        ...

    def forget(self, row: int) -> None:
        """Take nothing of sequence `row` from earlier steps at its next pass."""
        ...


class NoCache:
    """Compute everything at each step, as upstream.

    Args:
        offsets: of each sequence of a block-causal network, how many positions before its first token the first block
            begins; None = none.
    """

    def __init__(self, network: Network, offsets: Sequence[int] | None = None) -> None:
        self._network, self._offsets = network, offsets

    def compute(
        self,
        canvas: Canvas,
        block_steps: Mapping[int, BlockStep],
        asked: Mapping[int, IntArray],
        temperature: float,
        cancel: threading.Event | None,
    ) -> dict[int, Rows]:
        requests = [self._request(canvas, row, positions, temperature) for row, positions in asked.items()]
        return dict(zip(asked, forward_together(self._network, requests, cancel), strict=True))

    def forget(self, row: int) -> None:
        pass  # nothing is remembered

    def _request(self, canvas: Canvas, row: int, asked: IntArray, temperature: float) -> PassRequest:
        first, needed = canvas.first[row], canvas.logit_rows(row, asked)
        positions = canvas.position_ids[row, first:]
        places = positions[None] + (self._offsets[row] if self._offsets else 0)
        (mask,) = attended_keys(self._network.config, places, places, np.ones(places.shape, np.bool_))
        return PassRequest(canvas.sequence(row), positions, mask, needed - first, temperature)


@dataclass(frozen=True)
class _Memory:
    """What is remembered of one sequence while it is in a block."""

    of: tuple[int, int]
    """The block, and `Canvas.rearranged`: it holds no longer once positions move."""
    active: IntArray
    """[active] positions computed at every step, ascending."""
    seen: IntArray
    """[seen] positions of the pass at the block's start, ascending: the active ones, and those that are remembered."""
    remembered: BoolArray
    """[seen] which of them are remembered."""
    ids: IntArray
    """[seen] their tokens in that pass."""
    key_values: KeyValues
    """Of all that was seen: leaving the stale ones out of attention is cheaper than copying the others."""


class BlockCache:
    """Computes everything at the start of a block, its active positions after that.

    Args:
        kind: "prefix" remembers what stands before the block; "dual" what stands after it too.
        tail: how many masks after the block are seen at all; None = all of them. Far masks carry little
            (Chen et al., "DPad", arXiv 2508.14148) and cost as much as any token.
    """

    def __init__(self, network: Network, kind: CacheKind, tail: int | None = None) -> None:
        self._network, self._kind, self._tail = network, kind, tail
        self._memories: dict[int, _Memory] = {}

    def compute(
        self,
        canvas: Canvas,
        block_steps: Mapping[int, BlockStep],
        asked: Mapping[int, IntArray],
        temperature: float,
        cancel: threading.Event | None,
    ) -> dict[int, Rows]:
        requests = [self._request(canvas, row, block_steps[row], asked[row], temperature) for row in asked]
        results = zip(asked, requests, forward_together(self._network, requests, cancel), strict=True)
        return {row: self._settle(canvas, row, block_steps[row], request, rows) for row, request, rows in results}

    def forget(self, row: int) -> None:
        self._memories.pop(row, None)

    def _request(
        self, canvas: Canvas, row: int, block_step: BlockStep, asked: IntArray, temperature: float
    ) -> PassRequest:
        needed, memory = canvas.logit_rows(row, asked), self._memories.get(row)
        if memory is not None and memory.of == _current(canvas, block_step) and _holds(memory, canvas.ids[row], needed):
            active, past = memory.active, memory.key_values
            attended = np.append(memory.remembered, np.ones(len(active), dtype=bool))
        else:
            active, past = self._seen(canvas, row, block_step), None
            attended = np.ones(len(active), dtype=bool)
        return PassRequest(
            canvas.ids[row, active],
            canvas.position_ids[row, active],
            attended[None],
            np.searchsorted(active, needed),
            temperature,
            past,
            keep=past is None and self._kind != "none",
        )

    def _settle(self, canvas: Canvas, row: int, block_step: BlockStep, request: PassRequest, rows: Rows) -> Rows:
        """`rows`, and whether they are fresh; what is to be remembered of a pass that computed everything is."""
        if request.past is not None:
            return replace(rows, fresh=False)
        if self._kind != "none" and rows.key_values is not None:
            seen = self._seen(canvas, row, block_step)
            active = self._active(canvas, row, block_step, seen)
            remembered: BoolArray = ~np.isin(seen, active)
            current = _current(canvas, block_step)
            self._memories[row] = _Memory(current, active, seen, remembered, request.input_ids, rows.key_values)
        return rows

    def _seen(self, canvas: Canvas, row: int, block_step: BlockStep) -> IntArray:
        """Every valid position, but of the masks after the block only the nearest."""
        seen: BoolArray = canvas.valid[row].copy()
        if self._tail is not None:
            later = np.flatnonzero(canvas.masked[row])
            later = later[later > block_step.positions[-1]]
            seen[later[self._tail :]] = False
        return np.flatnonzero(seen)

    def _active(self, canvas: Canvas, row: int, block_step: BlockStep, seen: IntArray) -> IntArray:
        """The block, the positions before its own, and with a prefix cache everything after them."""
        before = canvas.logit_rows(row, block_step.positions)
        if self._kind == "prefix":
            later: IntArray = seen[seen >= before[0]]
            return later
        active: IntArray = seen[np.isin(seen, block_step.positions) | np.isin(seen, before)]
        return active


def _current(canvas: Canvas, block_step: BlockStep) -> tuple[int, int]:
    """What a memory is of; see `_Memory.of`."""
    return block_step.block, canvas.rearranged


def _holds(memory: _Memory, ids: IntArray, needed: IntArray) -> bool:
    """Whether all that is asked is computed, and no hook has rewritten what is remembered."""
    unchanged = (ids[memory.seen] == memory.ids) | ~memory.remembered
    return bool(np.isin(needed, memory.active).all() and unchanged.all())

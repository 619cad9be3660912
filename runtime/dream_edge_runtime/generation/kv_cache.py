"""What one step asks of the network: which positions are computed, and whose keys and values are remembered.

When a sequence enters a block, one pass computes everything it can see; until the block is done, a part of it is
computed again. No token outside the block changes meanwhile, but the remembered keys and values are those of a canvas
whose block was still masked, so this is an approximation: Wu et al., "Fast-dLLM" (arXiv 2505.22618), section 3.2.

The hidden state that predicts a position is the one before it. It is computed with the block, so that the shift is
exact; the reference implementation commits the first token of a block unconditionally instead.

A pass of the kind "auto" that took something from memory is marked (`Rows.fresh`): what is not sure is then not
revealed, and the step is made again with everything computed. Such a pass is asked about all the masks it sees, since
what is sure after the block need not be found again.
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

MOST_CHANGED = 4
"""A cache of the kind "auto" is used where at most one in so many of the positions that are seen is computed again."""


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

    def widen(self, canvas: Canvas, row: int, block_step: BlockStep, asked: IntArray) -> IntArray:
        """`asked` [asked], or all the masks that the next pass sees where it computes everything for their sake."""
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

    def widen(self, canvas: Canvas, row: int, block_step: BlockStep, asked: IntArray) -> IntArray:
        return asked

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
    seen: IntArray
    """[seen] positions of the pass at the block's start, ascending."""
    ids: IntArray
    """[seen] their tokens in that pass."""
    key_values: KeyValues
    """Of all that was seen: leaving the stale ones out of attention is cheaper than copying the others."""
    always: IntArray
    """Which positions every pass computes, whether or not they changed."""


class BlockCache:
    """Computes everything at the start of a block, and after that the part that its kind says.

    Args:
        kind: "prefix" computes the block and all that stands after it, "dual" the block, both as published; "auto" what
            has changed and what is asked about, where that is at most a quarter of what is seen, and marks its rows as
            not fresh; "none" computes everything at every step.
        window: how many masks after the block are seen, beside the last one, which shows where the text has to end;
            None = all of them. Far masks carry little and cost as much as any token: Chen et al., "DPad" (arXiv
            2508.14148); Xiao et al., "Streaming-dLLM" (arXiv 2601.17917), section 3.2.
    """

    def __init__(self, network: Network, kind: CacheKind, window: int | None = None) -> None:
        self._network, self._kind, self._window = network, kind, window
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

    def widen(self, canvas: Canvas, row: int, block_step: BlockStep, asked: IntArray) -> IntArray:
        memory = self._memories.get(row)
        if memory and self._recall(memory, canvas, row, block_step, canvas.logit_rows(row, asked)) is not None:
            return asked
        seen = self._seen(canvas, row, block_step)
        masks: IntArray = seen[canvas.masked[row, seen]]
        return masks

    def _request(
        self, canvas: Canvas, row: int, block_step: BlockStep, asked: IntArray, temperature: float
    ) -> PassRequest:
        needed, memory = canvas.logit_rows(row, asked), self._memories.get(row)
        active = None if memory is None else self._recall(memory, canvas, row, block_step, needed)
        if memory is None or active is None:
            active, past = self._seen(canvas, row, block_step), None
            attended = np.ones(len(active), dtype=bool)
        else:
            past = memory.key_values
            attended = np.append(~np.isin(memory.seen, active), np.ones(len(active), dtype=bool))
        return PassRequest(
            canvas.ids[row, active],
            canvas.position_ids[row, active],
            attended[None],
            np.searchsorted(active, needed),
            temperature,
            past,
            keep=past is None and self._pays(canvas.logit_rows(row, block_step.positions), active),
        )

    def _pays(self, needed: IntArray, seen: IntArray) -> bool:
        """Whether a later pass over `needed` rows [asked] could go on from one over all that is `seen` [seen]."""
        return self._kind in ("prefix", "dual") or (self._kind == "auto" and len(needed) * MOST_CHANGED <= len(seen))

    def _recall(
        self, memory: _Memory, canvas: Canvas, row: int, block_step: BlockStep, needed: IntArray
    ) -> IntArray | None:
        """Which positions [active] a pass over `needed` rows computes if it goes on from `memory`; None = it cannot."""
        if memory.of != (block_step.block, canvas.rearranged) or not np.isin(needed, memory.seen).all():
            return None
        changed = memory.seen[canvas.ids[row, memory.seen] != memory.ids]
        active: IntArray = np.unique(np.concatenate([memory.always, changed, needed]))
        return None if self._kind == "auto" and len(active) * MOST_CHANGED > len(memory.seen) else active

    def _settle(self, canvas: Canvas, row: int, block_step: BlockStep, request: PassRequest, rows: Rows) -> Rows:
        """`rows`, and whether they are fresh; what is to be remembered of a pass that computed everything is."""
        if request.past is not None:
            return replace(rows, fresh=self._kind != "auto")
        if request.keep and rows.key_values is not None:
            seen, of = self._seen(canvas, row, block_step), (block_step.block, canvas.rearranged)
            always = self._always(canvas, row, block_step, seen)
            self._memories[row] = _Memory(of, seen, request.input_ids, rows.key_values, always)
        return rows

    def _seen(self, canvas: Canvas, row: int, block_step: BlockStep) -> IntArray:
        """Every valid position, but of the masks after the block only the nearest and the last."""
        seen: BoolArray = canvas.valid[row].copy()
        if self._window is not None:
            later = np.flatnonzero(canvas.masked[row])
            later = later[later > block_step.positions[-1]]
            seen[later[self._window : -1]] = False
        return np.flatnonzero(seen)

    def _always(self, canvas: Canvas, row: int, block_step: BlockStep, seen: IntArray) -> IntArray:
        """The block and the positions before its own, and with a prefix cache everything after them."""
        if self._kind == "auto":
            return seen[:0]
        before = canvas.logit_rows(row, block_step.positions)
        if self._kind == "prefix":
            later: IntArray = seen[seen >= before[0]]
            return later
        return np.union1d(block_step.positions, before)

"""The cache of a block-causal network, which guesses nothing.

There, no position attends to a later block, so the keys and values of a block are final once its tokens are: they are
kept, and never computed twice. Every pass computes what is not kept yet, up to the block that is denoised: at first the
prompt; then, with the first pass of each block, the one that was finished before it; then the block alone.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..arrays import IntArray
from ..inference.network import KeyValues, Network, Rows, attended_keys
from .canvas import Canvas
from .schedule import BlockStep

MOST_AT_ONCE = 256
"""How many positions of a prompt a pass computes."""


class BlockStore(Protocol):
    """Keys and values of finished blocks, kept from one text to the next. Shared by threads."""

    def find(self, ids: IntArray, offset: int) -> KeyValues | None:
        """Those of as many whole blocks at the beginning of `ids` [length] as there are; None without any.

        The first block begins `offset` positions before the first token.
        """
        ...

    def keep(self, ids: IntArray, offset: int, key_values: KeyValues) -> None:
        """Take those of `ids` [length], which end with a block. They go on from what was found or kept before."""
        ...


@dataclass(frozen=True)
class _Kept:
    """The finished blocks of one sequence, from its first token."""

    ids: IntArray
    key_values: KeyValues | None
    """None = of no block."""


class FinishedBlocks:
    """One pass a sequence, over what is not kept up to the block that is denoised. A long prompt takes more of them.

    Args:
        network: block-causal.
        offsets: of each sequence, how many positions before its first token the first block begins.
        store: where finished blocks come from and go to.
    """

    def __init__(self, network: Network, offsets: Sequence[int], store: BlockStore | None = None) -> None:
        assert network.config.causal_block is not None
        self._network, self._offsets, self._store = network, offsets, store
        self._block: int = network.config.causal_block
        self._kept: dict[int, _Kept] = {}
        self.found: dict[int, int] = {}
        """How many positions of each sequence came out of the store."""
        self.prefills: dict[int, int] = {}
        """How many passes of each sequence computed a part of its prompt and nothing else."""

    def compute(
        self,
        canvas: Canvas,
        block_steps: Mapping[int, BlockStep],
        asked: Mapping[int, IntArray],
        temperature: float,
        cancel: threading.Event | None,
    ) -> dict[int, Rows]:
        return {
            row: self._compute(canvas, row, canvas.logit_rows(row, positions), temperature, cancel)
            for row, positions in asked.items()
        }

    def forget(self, row: int) -> None:
        pass  # what is kept is exact

    def _compute(
        self, canvas: Canvas, row: int, needed: IntArray, temperature: float, cancel: threading.Event | None
    ) -> Rows:
        ids, needed = canvas.sequence(row), needed - canvas.first[row]
        finished = self._begin_block(row, int(canvas.sequence_masked(row).argmax()))
        kept = self._recall(row, ids[:finished], int(needed[0]))
        stop = min(self._begin_block(row, int(needed[-1]) + self._block), len(ids))
        most = max(MOST_AT_ONCE, self._block)
        while stop - len(kept.ids) > most:
            end = self._begin_block(row, len(kept.ids) + most)
            self._forward(row, kept, ids[:end], end, np.array([end - 1]), temperature, cancel)  # it must ask for a row
            kept = self._kept[row]
            self.prefills[row] = self.prefills.get(row, 0) + 1
        return self._forward(row, kept, ids[:stop], min(finished, stop), needed, temperature, cancel)

    def _begin_block(self, row: int, position: int) -> int:
        """Where the block of `position` begins."""
        return max(0, position - (position + self._offsets[row]) % self._block)

    def _recall(self, row: int, finished: IntArray, needed: int) -> _Kept:
        """What is kept of the blocks `finished` [length], but for the block whose row `needed` is asked for again."""
        kept = self._kept.get(row)
        if kept is None:
            found = self._store.find(finished, self._offsets[row]) if self._store else None
            kept = _Kept(finished[: found.count if found else 0], found)
        size = min(len(kept.ids), len(finished))
        changed = np.flatnonzero(kept.ids[:size] != finished[:size])  # by a hook
        size = self._begin_block(row, min(needed, int(changed[0]) if changed.size else size))
        if kept.key_values is not None and size < len(kept.ids):
            kept = _Kept(kept.ids[:size], kept.key_values.cut(0, size) if size else None)
        self.found.setdefault(row, len(kept.ids))
        return kept

    def _forward(
        self,
        row: int,
        kept: _Kept,
        ids: IntArray,
        finished: int,
        needed: IntArray,
        temperature: float,
        cancel: threading.Event | None,
    ) -> Rows:
        """Compute what is not `kept` of `ids` [length], and keep it up to `finished`."""
        begin, offset = len(kept.ids), self._offsets[row]
        active, keys = (np.arange(start, len(ids), dtype=np.int64)[None] for start in (begin, 0))
        mask = attended_keys(self._network.config, active + offset, keys + offset, np.ones(keys.shape, np.bool_))
        if mask.all():
            mask = mask[:, :1]
        rows = self._network.forward(
            ids[None, begin:],
            active,
            mask,
            needed - begin,
            temperature,
            cancel,
            past=kept.key_values,
            keep=finished > begin,
        )
        if finished > begin and rows.key_values is not None:
            added = rows.key_values.cut(0, finished - begin)
            both = added if kept.key_values is None else kept.key_values.append(added)
            self._kept[row] = _Kept(ids[:finished], both)
            if self._store:
                self._store.keep(ids[:finished], offset, both)
        return rows

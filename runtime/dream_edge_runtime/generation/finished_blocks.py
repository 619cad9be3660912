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
from ..inference.together import PassRequest, forward_together
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


@dataclass(frozen=True)
class _Part:
    """What a pass computes of one sequence: what is not `kept` of `ids` [length], finished blocks up to `finished`."""

    kept: _Kept
    ids: IntArray
    finished: int


class FinishedBlocks:
    """Computes what is not kept up to the block that is denoised. A long prompt takes several passes.

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
        needed = {row: canvas.logit_rows(row, positions) - canvas.first[row] for row, positions in asked.items()}
        results: dict[int, Rows] = {}
        while len(results) < len(asked):
            parts = self._choose(canvas, {row: rows for row, rows in needed.items() if row not in results}, cancel)
            requests = [self._request(row, part, needed[row], temperature) for row, part in parts.items()]
            made = forward_together(self._network, requests, cancel)
            for (row, part), rows in zip(parts.items(), made, strict=True):
                self._keep(row, part, rows)
                results[row] = rows
        return results

    def forget(self, row: int) -> None:
        pass  # what is kept is exact

    def widen(self, canvas: Canvas, row: int, block_step: BlockStep, asked: IntArray) -> IntArray:
        return asked

    def _choose(
        self, canvas: Canvas, needed: Mapping[int, IntArray], cancel: threading.Event | None
    ) -> dict[int, _Part]:
        """What is left to compute of each sequence; not of those that go on as an earlier one does for a block, which
        the store will have by the next time."""
        parts: dict[int, _Part] = {}
        begun: set[tuple[int, bytes]] = set()
        for row, rows in needed.items():
            ids, offset = canvas.sequence(row), self._offsets[row]
            finished = self._begin_block(row, int(canvas.sequence_masked(row).argmax()))
            kept = self._recall(row, ids[:finished], int(rows[0]))
            end = self._begin_block(row, len(kept.ids) + self._block)
            if self._store and end <= finished:
                if (offset, ids[:end].tobytes()) in begun:
                    continue
                begun.add((offset, ids[:end].tobytes()))
            self.found.setdefault(row, len(kept.ids))
            stop = min(self._begin_block(row, int(rows[-1]) + self._block), len(ids))
            kept = self._prefill(row, kept, ids[:stop], cancel)
            parts[row] = _Part(kept, ids[:stop], min(finished, stop))
        return parts

    def _prefill(self, row: int, kept: _Kept, ids: IntArray, cancel: threading.Event | None) -> _Kept:
        """Compute and keep blocks of `ids` [length] until the rest is short enough for a pass."""
        most = max(MOST_AT_ONCE, self._block)
        while len(ids) - len(kept.ids) > most:
            end = self._begin_block(row, len(kept.ids) + most)
            part = _Part(kept, ids[:end], end)
            (rows,) = forward_together(self._network, [self._request(row, part, np.array([end - 1]), 0.0)], cancel)
            self._keep(row, part, rows)
            kept = self._kept[row]
            self.prefills[row] = self.prefills.get(row, 0) + 1
        return kept

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
        return kept

    def _request(self, row: int, part: _Part, needed: IntArray, temperature: float) -> PassRequest:
        """A pass over `part`, which must ask for a row."""
        begin, offset = len(part.kept.ids), self._offsets[row]
        active, keys = (np.arange(start, len(part.ids), dtype=np.int64) for start in (begin, 0))
        places, seen = (active[None] + offset, keys[None] + offset), np.ones((1, len(keys)), np.bool_)
        (mask,) = attended_keys(self._network.config, *places, seen)
        if mask.all():
            mask = mask[:1]
        keep = part.finished > begin
        return PassRequest(
            part.ids[begin:], active, mask, needed - begin, temperature, past=part.kept.key_values, keep=keep
        )

    def _keep(self, row: int, part: _Part, rows: Rows) -> None:
        """Keep what `rows` have of finished blocks."""
        kept, finished = part.kept, part.finished
        if finished <= len(kept.ids) or rows.key_values is None:
            return
        added = rows.key_values.cut(0, finished - len(kept.ids))
        both = added if kept.key_values is None else kept.key_values.append(added)
        self._kept[row] = _Kept(part.ids[:finished], both)
        if self._store:
            self._store.keep(part.ids[:finished], self._offsets[row], both)

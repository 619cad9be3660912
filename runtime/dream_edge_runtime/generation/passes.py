"""What one step asks of the network: which positions are computed, and which are remembered."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Protocol

import numpy as np

from ..arrays import IntArray
from ..inference.network import Network, Rows
from .canvas import Canvas
from .pace import Turn


class Passes(Protocol):
    """Computes the logits of a step. Belongs to one generation, so that it may remember earlier steps."""

    def compute(
        self,
        canvas: Canvas,
        turns: Mapping[int, Turn],
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


class FullPasses:
    """Everything anew at each step, as upstream: one pass over all sequences that ask."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def compute(
        self,
        canvas: Canvas,
        turns: Mapping[int, Turn],
        asked: Mapping[int, IntArray],
        temperature: float,
        cancel: threading.Event | None,
    ) -> dict[int, Rows]:
        length, asking = canvas.ids.shape[1], list(asked)
        logit_rows = [canvas.logit_rows(row, asked[row]) + index * length for index, row in enumerate(asking)]
        rows = self._network.forward(
            canvas.ids[asking],
            canvas.position_ids[asking],
            canvas.valid[asking],
            np.concatenate(logit_rows),
            temperature,
            cancel,
        )
        return dict(zip(asking, split(rows, [asked[row].size for row in asking]), strict=True))

    def forget(self, row: int) -> None:
        pass  # nothing is remembered


def split(rows: Rows, sizes: list[int]) -> Iterator[Rows]:
    """`rows` cut into pieces of `sizes`, which fetch the full logits together, at most once."""
    if len(sizes) == 1:
        yield rows
        return
    shared = rows.sharing(cache(rows.fetch_logits))
    start = 0
    for size in sizes:
        yield shared.take(slice(start, start + size))
        start += size

"""Canvases that grow before the first step, until the network sees the end of the text on them.

Li et al., "Beyond Fixed: Variable-Length Denoising for Diffusion Large Language Models" (DAEDAL, arXiv 2508.00819), its
first phase: where the last masks are likely to be ends of text, there is room enough. Here the masks double instead of
growing by eight, since every look costs a pass.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..inference.network import Network, Rows
from .canvas import Canvas
from .passes import FullPasses

IN_SIGHT = 0.5
"""How probable an end of text must be at the last masks, on average (the paper's threshold)."""
MOST_LOOKED_AT = 32
"""How many of the last masks are looked at (the paper's window), but no more than half of them."""


def grow(
    network: Network, canvas: Canvas, most: Mapping[int, int], ends: frozenset[int], cancel: threading.Event | None
) -> dict[int, int]:
    """Lengthen the sequences of `canvas` that `most` names, which end in their only hole, up to so many masks.

    Returns:
        How many passes each of them took.

    Raises:
        Cancelled: `cancel` was set.
    """
    passes = FullPasses(network)
    made = dict.fromkeys(most, 0)
    growing = {row for row in most if _masks(canvas, row).size < most[row]}
    while growing:
        asked = {row: _last(_masks(canvas, row)) for row in sorted(growing)}
        for row, rows in passes.compute(canvas, {}, asked, 0.0, cancel).items():
            made[row] += 1
            if chance(rows, ends).mean() >= IN_SIGHT:
                growing.remove(row)
        for row in sorted(growing):
            size = _masks(canvas, row).size
            counts = np.ones(int(canvas.valid[row].sum()), dtype=np.int64)
            counts[-1] += min(size, most[row] - size)
            canvas.repeat(row, counts)
        growing = {row for row in growing if _masks(canvas, row).size < most[row]}
    return made


def chance(rows: Rows, tokens: frozenset[int]) -> FloatArray:
    """How probable each of `rows` is one of `tokens` [rows], as far as the k best tell."""
    among: BoolArray = np.isin(rows.top_ids, list(tokens))
    probability: FloatArray = np.where(among, rows.top_probs, 0).sum(axis=1)
    return probability


def _masks(canvas: Canvas, row: int) -> IntArray:
    return np.flatnonzero(canvas.masked[row])


def _last(masks: IntArray) -> IntArray:
    return masks[-max(1, min(MOST_LOOKED_AT, masks.size // 2)) :]

"""Which positions a comparison masks: every mask ratio equally often, and the same masks for every artifact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dream_edge_runtime.arrays import IntArray

from .read import Passage


@dataclass(frozen=True)
class MaskedPassage:
    """A passage with some of its positions masked.

    Attributes:
        canvas: ids [length] with masks.
        positions: where the masks are [masked], ascending.
        targets: what was there [masked].
        bin: which interval of mask ratios it belongs to, counted from 0.
    """

    canvas: IntArray
    positions: IntArray
    targets: IntArray
    bin: int


def mask_passages(
    passages: Sequence[Passage], mask_id: int, *, count: int, bins: int, seed: int
) -> Iterator[MaskedPassage]:
    """Draw `count` masked passages, the passages in turn in a random order.

    Ratios are stratified: draw i takes t from the π(i)-th of `count` equal parts of (0, 1], and l = ⌈t·n⌉ of the n
    maskable positions, drawn without replacement. So l is uniform on 1 … n, as in equation 6 of LLaDA (Nie et al.,
    arXiv 2502.09992). The mask ratio of a draw is l / n; bin b holds ratios in (b / bins, (b + 1) / bins].
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(passages))
    ratios = 1 - (rng.permutation(count) + rng.random(count)) / count
    for index, ratio in enumerate(ratios):
        passage = passages[order[index % len(order)]]
        masked = min(passage.maskable, int(np.ceil(ratio * passage.maskable)))
        positions = passage.start + np.sort(rng.permutation(passage.maskable)[:masked])
        canvas = passage.ids.copy()
        canvas[positions] = mask_id
        yield MaskedPassage(canvas, positions, passage.ids[positions], (masked * bins - 1) // passage.maskable)

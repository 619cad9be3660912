"""Which masked positions come first: one confidence a position, the highest first.

One strategy a file. To add one: write its file and name it in `ORDERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...arrays import FloatArray, IntArray
from ..sampling import Proposal
from .entropy import NegativeEntropy
from .left_to_right import LeftToRight
from .maskgit_plus import TopProbability
from .topk_margin import TopMargin


class Order(Protocol):
    """Ranks masked positions. Equal confidences are ordered by position."""

    def confidence(self, proposal: Proposal, positions: IntArray) -> FloatArray:
        """[masked] confidence of the proposed tokens at canvas `positions` [masked], which ascend."""
        ...


ORDERS: dict[str, Callable[[], Order]] = {
    "maskgit_plus": TopProbability,
    "topk_margin": TopMargin,
    "entropy": NegativeEntropy,
    "left_to_right": LeftToRight,
}

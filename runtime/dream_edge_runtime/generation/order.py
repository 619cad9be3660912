"""Which masked positions come first: one confidence a position, the highest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..arrays import FloatArray, IntArray
from .sampling import Proposal, UniformSource


class Order(Protocol):
    """Ranks masked positions. Equal confidences are ordered by position."""

    def confidence(self, proposal: Proposal, positions: IntArray) -> FloatArray:
        """[masked] confidence of the proposed tokens at canvas `positions` [masked], which ascend."""
        ...


@dataclass(frozen=True)
class TopProbability:
    """Confidence = probability of the proposed token.

    Chang et al., "MaskGIT" (arXiv 2202.04200), section 3.2; Dream's `maskgit_plus`.
    """

    def confidence(self, proposal: Proposal, positions: IntArray) -> FloatArray:
        return proposal.probability


@dataclass(frozen=True)
class TopMargin:
    """Confidence = how far the best token's probability lies above the second's.

    Kim et al., "Train for the Worst, Plan for the Best" (arXiv 2502.06768), section 4; Dream's `topk_margin`.
    """

    def confidence(self, proposal: Proposal, positions: IntArray) -> FloatArray:
        return proposal.margin


@dataclass(frozen=True)
class NegativeEntropy:
    """Confidence = sum of p · log(p + 1e-10): the most certain distribution first.

    Ye et al., "Dream 7B" (arXiv 2508.15487); Dream's `entropy`.
    """

    def confidence(self, proposal: Proposal, positions: IntArray) -> FloatArray:
        return proposal.neg_entropy


@dataclass(frozen=True)
class LeftToRight:
    """Confidence = -position: the order of an autoregressive model, with both sides in sight."""

    def confidence(self, proposal: Proposal, positions: IntArray) -> FloatArray:
        return -positions.astype(np.float32)


ORDERS: dict[str, Callable[[], Order]] = {
    "maskgit_plus": TopProbability,
    "topk_margin": TopMargin,
    "entropy": NegativeEntropy,
    "left_to_right": LeftToRight,
}


@dataclass(frozen=True)
class Ranking:
    """Masked positions from the most to the least confident, or drawn in an order that favours the confident.

    With a `temperature`, positions are drawn one after the other, without replacement, from
    softmax(confidence / temperature): adding Gumbel noise to the scores and sorting gives just that distribution
    (Kool et al., arXiv 1903.06059).
    """

    order: Order
    temperature: float | None = None

    def best_first(self, proposal: Proposal, positions: IntArray, draws: UniformSource) -> IntArray:
        """Indices into `positions`; equal confidences are ordered by position."""
        confidence = self.order.confidence(proposal, positions)
        if not self.temperature:
            return np.argsort(-confidence, kind="stable")
        uniform = np.maximum(draws.random(len(positions)), np.finfo(np.float64).tiny)
        gumbel = -np.log(-np.log(uniform))
        return np.argsort(-(confidence / np.float64(self.temperature) + gumbel), kind="stable")

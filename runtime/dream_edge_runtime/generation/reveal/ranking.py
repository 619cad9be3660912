from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import IntArray
from ...errors import InvalidOption
from ..order import Order
from ..sampling import Draws, Proposal


@dataclass(frozen=True)
class Ranking:
    """Masked positions from the most to the least confident, or drawn in an order that favours the confident.

    With a `temperature`, positions are drawn one after the other, without replacement, from
    softmax(confidence / temperature): adding Gumbel noise to the scores and sorting gives just that distribution
    (Kool et al., arXiv 1903.06059).
    """

    order: Order
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 <= self.temperature < float("inf"):
            raise InvalidOption("algorithm_temperature", self.temperature, "must be 0 or positive")

    def best_first(self, proposal: Proposal, positions: IntArray, draws: Draws) -> IntArray:
        """Indices into `positions`; equal confidences are ordered by position."""
        confidence = self.order.confidence(proposal, positions)
        if not self.temperature:
            return np.argsort(-confidence, kind="stable")
        uniform = np.maximum(draws.random(len(positions)), np.finfo(np.float64).tiny)
        gumbel = -np.log(-np.log(uniform))
        return np.argsort(-(confidence / np.float64(self.temperature) + gumbel), kind="stable")

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import IntArray
from ...errors import InvalidOption
from ...inference.network import Rows
from ..sampling import Draws, Proposal
from ..schedule import Moment
from .ranking import Ranking


@dataclass(frozen=True, kw_only=True)
class EntropyBound:
    """Reveal the first n positions whose entropies, all but the largest, sum to at most `bound` nats.

    That sum bounds how much the positions may still tell about each other, so how wrong it can be to draw them
    independently. One position is always revealed, and the last step reveals all that is left. Ben-Hamu et al.,
    "Accelerated Sampling from Masked Diffusion Models via Entropy Bounded Unmasking" (arXiv 2505.24857).
    """

    ranking: Ranking
    bound: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.bound < float("inf"):
            raise InvalidOption("entropy_bound", self.bound, "must be 0 or positive")

    def ask(self, masked: int, moment: Moment, draws: Draws) -> IntArray:
        return np.arange(masked)

    def choose(self, proposal: Proposal, rows: Rows, positions: IntArray, moment: Moment, draws: Draws) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        if moment.last:
            return best_first
        entropy = np.maximum(-proposal.neg_entropy[best_first].astype(np.float64), 0)
        excess = np.cumsum(entropy) - np.maximum.accumulate(entropy)
        return best_first[: max(1, int((excess <= self.bound).sum()))]

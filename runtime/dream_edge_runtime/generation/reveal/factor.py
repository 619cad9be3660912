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
class ConfidenceFactor:
    """Reveal the first n positions as long as (n + 1)(1 - c) < `factor`, and always the first one.

    c is the lowest probability among the n proposed tokens: the more positions are revealed together, the surer each of
    them must be for their joint choice to be the best one. The last step reveals all that is left. Wu et al.,
    "Fast-dLLM" (arXiv 2505.22618), section 3.3.
    """

    ranking: Ranking
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < float("inf"):
            raise InvalidOption("factor", self.factor, "must be positive")

    def ask(self, masked: int, moment: Moment, draws: Draws) -> IntArray:
        return np.arange(masked)

    def choose(self, proposal: Proposal, rows: Rows, positions: IntArray, moment: Moment, draws: Draws) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        if moment.last:
            return best_first
        lowest = np.minimum.accumulate(proposal.probability[best_first].astype(np.float64))
        doubt = (np.arange(len(lowest)) + 2) * (1 - lowest)
        return best_first[: max(1, int((doubt < self.factor).sum()))]

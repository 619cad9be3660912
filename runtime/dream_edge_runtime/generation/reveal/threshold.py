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
class ConfidenceThreshold:
    """Reveal every position whose proposed token has a probability of at least `threshold`, and always the first one.

    `ranking` says which is first; what is compared is the probability of the proposed token, whatever the ranking goes
    by. The last step reveals all that is left. Wu et al., "Fast-dLLM" (arXiv 2505.22618), section 3.3.

    Where some of what was attended to came from an earlier pass, nothing is guessed: if no token is probable enough,
    none is revealed, and the step is made again with everything computed. This is ours: a guess from stale keys and
    values is often wrong (docs/decoding.md).
    """

    ranking: Ranking
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise InvalidOption("threshold", self.threshold, "must lie in (0, 1]")

    def ask(self, masked: int, moment: Moment, draws: Draws) -> IntArray:
        return np.arange(masked)

    def choose(self, proposal: Proposal, rows: Rows, positions: IntArray, moment: Moment, draws: Draws) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        if moment.last:
            return best_first
        sure = proposal.probability[best_first] >= self.threshold
        sure[0] |= rows.fresh
        return best_first[sure]

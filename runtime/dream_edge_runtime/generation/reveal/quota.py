from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import IntArray
from ...inference.network import Rows
from ..sampling import Draws, Proposal
from ..schedule import Moment
from .ranking import Ranking


@dataclass(frozen=True)
class Quota:
    """Reveal the best int(masked · (1 - s/t)) positions; all of them at the last step.

    Dream's own loop for its confidence algorithms. Where the schedule grants nothing, no pass is made: it could change
    nothing. Numbers are drawn in canvas order: tokens first (if at all), then positions (with a ranking temperature).
    """

    ranking: Ranking

    def ask(self, masked: int, moment: Moment, draws: Draws) -> IntArray:
        return np.arange(masked if moment.quota(masked) else 0)

    def choose(self, proposal: Proposal, rows: Rows, positions: IntArray, moment: Moment, draws: Draws) -> IntArray:
        return self.ranking.best_first(proposal, positions, draws)[: moment.quota(len(positions))]

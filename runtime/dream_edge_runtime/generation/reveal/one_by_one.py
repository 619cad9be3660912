from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import IntArray
from ...inference.network import Rows
from ..sampling import Draws, Proposal
from ..schedule import Moment
from .ranking import Ranking


@dataclass(frozen=True)
class OneByOne:
    """Reveal the best position at each step, whatever the schedule grants.

    For holes that grow and shrink: no schedule knows how many masks there will be. (DreamOn: one transfer token.)
    """

    ranking: Ranking

    def ask(self, masked: int, moment: Moment, draws: Draws) -> IntArray:
        return np.arange(masked)

    def choose(self, proposal: Proposal, rows: Rows, positions: IntArray, moment: Moment, draws: Draws) -> IntArray:
        return self.ranking.best_first(proposal, positions, draws)[:1]

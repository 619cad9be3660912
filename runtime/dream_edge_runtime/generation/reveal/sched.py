from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...arrays import IntArray
from ...errors import InvalidOption
from ...inference.network import Rows
from ..sampling import Draws, Proposal
from ..schedule import Moment
from .ranking import Ranking

DECAY = 2.0


@dataclass(frozen=True, kw_only=True)
class EarlyExit:
    """Follow the schedule until the network is sure enough of all that is masked; then reveal it at once.

    Sure enough: the best logit lies above the second by at least `margin` · exp(-`DECAY` · progress) in the mean of the
    masked positions, where progress is the share of the steps that are made. Logits count after temperature. Until then
    each step reveals what the schedule grants, but at least one. Mohamed et al., "Fast-Decoding Diffusion Language
    Models via Progress-Aware Confidence Schedules" (arXiv 2512.02892), with the exponential schedule towards 0.
    """

    ranking: Ranking
    margin: float = 7.5

    def __post_init__(self) -> None:
        if not 0 < self.margin < float("inf"):
            raise InvalidOption("sched", self.margin, "must be positive")

    def ask(self, masked: int, moment: Moment, draws: Draws) -> IntArray:
        return np.arange(masked)

    def choose(self, proposal: Proposal, rows: Rows, positions: IntArray, moment: Moment, draws: Draws) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        margins = rows.top_logits[:, 0] - rows.top_logits[:, 1]
        needed = self.margin * math.exp(-DECAY * moment.index / moment.steps)
        if margins.mean(dtype=np.float64) >= needed:
            return best_first
        return best_first[: max(1, moment.quota(len(positions)))]

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import BoolArray, IntArray
from ...errors import InvalidOption
from ...inference.network import Rows
from ..sampling import Draws, Proposal
from ..schedule import Moment
from .ranking import Ranking

ANCHOR = 0.9
RADIUS = 4


@dataclass(frozen=True, kw_only=True)
class LocalLeap:
    """Reveal every position whose token is at least `ANCHOR` probable, and near those less is enough.

    Within `RADIUS` places of such an anchor a token needs only the probability `relaxed`. The first position is always
    revealed, and the last step reveals all that is left. Kong et al., "Accelerating Diffusion LLM Inference via Local
    Determinism Propagation" (arXiv 2510.07081), with the anchors and the radius of its experiments.
    """

    ranking: Ranking
    relaxed: float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.relaxed <= ANCHOR:
            raise InvalidOption("local_leap", self.relaxed, f"must lie in (0, {ANCHOR}]")

    def ask(self, masked: int, moment: Moment, draws: Draws) -> IntArray:
        return np.arange(masked)

    def choose(self, proposal: Proposal, rows: Rows, positions: IntArray, moment: Moment, draws: Draws) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        if moment.last:
            return best_first
        anchors = positions[proposal.probability >= ANCHOR]
        near: BoolArray = (np.abs(positions[:, None] - anchors) <= RADIUS).any(axis=1)
        sure: BoolArray = (near & (proposal.probability >= self.relaxed))[best_first]
        sure[0] = True
        revealed: IntArray = best_first[sure]
        return revealed

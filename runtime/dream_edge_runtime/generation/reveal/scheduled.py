"""Reveals that the schedule decides, or that keep to one token a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import IntArray
from ...inference.network import Rows
from ..order import Ranking
from ..sampling import Proposal, UniformSource
from ..schedule import Timestep


@dataclass(frozen=True)
class Origin:
    """Reveal each masked position with probability 1 - s/t, whatever the network thinks of it; all at the last step.

    Masked diffusion as it is derived (MDLM, arXiv 2406.07524; Dream's `origin`). Draws one number a masked position,
    in canvas order; tokens are computed and drawn only for the positions it picks.
    """

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return np.flatnonzero(draws.random(masked) < timestep.share)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        return np.arange(len(positions))


@dataclass(frozen=True)
class Quota:
    """Reveal the best int(masked · (1 - s/t)) positions; all of them at the last step.

    Dream's own loop for its confidence algorithms. Where the schedule grants nothing, no pass is made: it could change
    nothing. Numbers are drawn in canvas order: tokens first (if at all), then positions (with a ranking temperature).
    """

    ranking: Ranking

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return np.arange(masked if timestep.quota(masked) else 0)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        return self.ranking.best_first(proposal, positions, draws)[: timestep.quota(len(positions))]


@dataclass(frozen=True)
class OneByOne:
    """Reveal the best position at each step, whatever the schedule grants.

    For holes that grow and shrink: no schedule knows how many masks there will be. (DreamOn: one transfer token.)
    """

    ranking: Ranking

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return np.arange(masked)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        return self.ranking.best_first(proposal, positions, draws)[:1]

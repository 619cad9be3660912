from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import IntArray
from ...inference.network import Rows
from ..sampling import Draws, Proposal
from ..schedule import Moment


@dataclass(frozen=True)
class Origin:
    """Reveal each masked position with probability 1 - s/t, whatever the network thinks of it; all at the last step.

    Masked diffusion as it is derived (MDLM, arXiv 2406.07524; Dream's `origin`). Draws one number a masked position,
    in canvas order; tokens are computed and drawn only for the positions it picks.
    """

    def ask(self, masked: int, moment: Moment, draws: Draws) -> IntArray:
        return np.flatnonzero(draws.random(masked) < moment.share)

    def choose(self, proposal: Proposal, rows: Rows, positions: IntArray, moment: Moment, draws: Draws) -> IntArray:
        return np.arange(len(positions))

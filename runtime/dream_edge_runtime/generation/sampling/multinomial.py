from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...arrays import FloatArray, IntArray
from ...errors import InvalidOption
from ...inference.network import Rows
from . import Draws, Proposal
from .filters import NO_FILTERS, Filters, candidates, cumulate, unfiltered, with_full_rows


@dataclass(frozen=True, kw_only=True)
class Multinomial:
    """Draw each token from softmax(logits / temperature) after filtering.

    One uniform number a row is drawn first and looked up in the running sum of the probabilities, best token first, so
    that the full logits are needed only where it lies beyond the k best.
    """

    temperature: float
    filters: Filters = NO_FILTERS

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise InvalidOption("temperature", self.temperature, "must be positive here; 0 is greedy")

    def propose(self, rows: Rows, draws: Draws) -> Proposal:
        uniform = draws.random(rows.count)
        if self.filters.active:
            enough = self.filters.kept(rows)[1]
        else:
            enough = uniform < cumulate(rows.top_probs)[:, -1]

        def propose(some: Rows, indices: IntArray) -> Proposal:
            distribution = candidates(some, self.filters.kept(some)[0]) if self.filters.active else unfiltered(some)
            return distribution.proposal(_look_up(distribution.probs, uniform[indices]))

        return with_full_rows(rows, enough, self.temperature, propose)


def _look_up(probs: FloatArray, uniform: npt.NDArray[np.float64]) -> IntArray:
    """The column [rows] of best-first `probs` [rows, width] that each number of `uniform` [rows] falls into."""
    column = (cumulate(probs) <= uniform[:, None]).sum(axis=1)
    possible = (probs > 0).sum(axis=1)  # rounding may leave the sum short of a number just below 1
    chosen: IntArray = np.minimum(column, possible - 1)
    return chosen

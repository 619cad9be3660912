from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import IntArray
from ...inference.network import Rows
from . import Draws, Proposal
from .filters import NO_FILTERS, Filters, candidates, unfiltered, with_full_rows


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """Propose the most probable token. The filters change how sure it looks, not which one it is."""

    filters: Filters = NO_FILTERS

    @property
    def temperature(self) -> float:
        return 0.0

    def propose(self, rows: Rows, draws: Draws) -> Proposal:
        best = np.zeros(rows.count, dtype=np.int64)
        if not self.filters.active:
            return unfiltered(rows).proposal(best)

        def propose(some: Rows, indices: IntArray) -> Proposal:
            return candidates(some, self.filters.kept(some)[0]).proposal(best[indices])

        return with_full_rows(rows, self.filters.kept(rows)[1], self.temperature, propose)

from __future__ import annotations

from dataclasses import dataclass

from ...arrays import FloatArray, IntArray
from ..sampling import Proposal


@dataclass(frozen=True)
class TopMargin:
    """Confidence = how far the best token's probability lies above the second's.

    Kim et al., "Train for the Worst, Plan for the Best" (arXiv 2502.06768), section 4; Dream's `topk_margin`.
    """

    def confidence(self, proposal: Proposal, positions: IntArray) -> FloatArray:
        return proposal.margin

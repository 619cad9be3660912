from __future__ import annotations

from dataclasses import dataclass

from ...arrays import FloatArray, IntArray
from ..sampling import Proposal


@dataclass(frozen=True)
class NegativeEntropy:
    """Confidence = sum of p · log(p + 1e-10): the most certain distribution first.

    Ye et al., "Dream 7B" (arXiv 2508.15487); Dream's `entropy`.
    """

    def confidence(self, proposal: Proposal, positions: IntArray) -> FloatArray:
        return proposal.neg_entropy

from __future__ import annotations

from dataclasses import dataclass

from ...arrays import FloatArray, IntArray
from ..sampling import Proposal


@dataclass(frozen=True)
class TopProbability:
    """Confidence = probability of the proposed token.

    Chang et al., "MaskGIT" (arXiv 2202.04200), section 3.2; Dream's `maskgit_plus`.
    """

    def confidence(self, proposal: Proposal, positions: IntArray) -> FloatArray:
        return proposal.probability

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import FloatArray, IntArray
from ..sampling import Proposal


@dataclass(frozen=True)
class LeftToRight:
    """Confidence = -position: the order of an autoregressive model, with both sides in sight."""

    def confidence(self, proposal: Proposal, positions: IntArray) -> FloatArray:
        return -positions.astype(np.float32)

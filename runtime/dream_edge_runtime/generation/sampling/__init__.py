"""How a token is drawn for a masked position: one strategy a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...arrays import FloatArray, IntArray
from ...inference.network import Rows


class Draws(Protocol):
    """Where uniform random numbers come from; `numpy.random.Generator` is one."""

    def random(self, size: int, /) -> npt.NDArray[np.float64]:
        """[size] numbers in [0, 1)."""
        ...


@dataclass(frozen=True)
class Proposal:
    """One token for each asked position, and how sure the filtered distribution is."""

    tokens: IntArray
    """[rows] proposed ids."""
    probability: FloatArray
    """[rows] their probabilities."""
    margin: FloatArray
    """[rows] the best token's probability minus the second's."""
    neg_entropy: FloatArray
    """[rows] sum of p · log(p + 1e-10)."""


class Draw(Protocol):
    """Proposes tokens. `temperature` is what the network is to divide the logits by (0 = not at all)."""

    @property
    def temperature(self) -> float: ...

    def propose(self, rows: Rows, draws: Draws) -> Proposal:
        """A token for each of `rows`, which were computed at `temperature`."""
        ...

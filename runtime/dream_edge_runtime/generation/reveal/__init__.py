"""Which masked positions are revealed at a step: a family of strategies a file."""

from __future__ import annotations

from typing import Protocol

from ...arrays import IntArray
from ...inference.network import Rows
from ..sampling import Proposal, UniformSource
from ..schedule import Timestep


class Reveal(Protocol):
    """Decides in two stages, so that the network is asked only for what can matter.

    Belongs to one sequence of one generation, so that it may remember earlier steps.
    """

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        """Which of `masked` positions may be revealed at this step: ascending indices. Without any, no pass is made."""
        ...

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        """Which of the asked positions are revealed: indices into `positions` [asked], best first.

        `positions` are their places on the canvas, ascending; `proposal` holds their tokens, drawn from `rows`. Where
        `rows` are not fresh it may choose none: the step is then made again with everything computed.
        """
        ...

"""Which masked positions are revealed at a step: one strategy a file."""

from __future__ import annotations

from typing import Protocol

from ...arrays import IntArray
from ...inference.network import Rows
from ..sampling import Draws, Proposal
from ..schedule import Moment


class Reveal(Protocol):
    """Decides in two stages, so that the network is asked only for what can matter.

    Belongs to one sequence of one generation, so that it may remember earlier steps.
    """

    def ask(self, masked: int, moment: Moment, draws: Draws) -> IntArray:
        """Which of `masked` positions may be revealed at this step: ascending indices. None: no pass is made."""
        ...

    def choose(self, proposal: Proposal, rows: Rows, positions: IntArray, moment: Moment, draws: Draws) -> IntArray:
        """Which of the asked positions are revealed: indices into `positions` [asked], best first.

        `positions` are their places on the canvas, ascending; `proposal` holds their tokens, drawn from `rows`. Where
        `rows` are not fresh it may choose none: the step is then made again with everything computed.
        """
        ...

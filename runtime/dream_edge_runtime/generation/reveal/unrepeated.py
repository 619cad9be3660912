from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import IntArray
from ...inference.network import Rows
from ..sampling import Draws, Proposal
from ..schedule import Moment
from . import Reveal


@dataclass(frozen=True)
class Unrepeated:
    """What `reveal` chooses, but of two neighbours with the same token only the surer one, up to the last step.

    Tokens that are revealed together do not see each other, so a word whose place is uncertain by one comes twice ("the
    the"). The one that is held back is asked about again once the other stands. Runs of `exempt` tokens, which end and
    pad a text, are right.
    """

    reveal: Reveal
    exempt: frozenset[int] = frozenset()

    def ask(self, masked: int, moment: Moment, draws: Draws) -> IntArray:
        return self.reveal.ask(masked, moment, draws)

    def choose(self, proposal: Proposal, rows: Rows, positions: IntArray, moment: Moment, draws: Draws) -> IntArray:
        chosen = self.reveal.choose(proposal, rows, positions, moment, draws)
        if moment.last or len(chosen) < 2:
            return chosen
        rank = np.argsort(positions[chosen])  # from the left, how sure each is: 0 is the surest
        places, tokens = positions[chosen][rank], proposal.tokens[chosen][rank]
        twins = (np.diff(places) == 1) & (tokens[1:] == tokens[:-1]) & ~np.isin(tokens[1:], list(self.exempt))
        kept = np.ones(len(chosen), dtype=bool)
        kept[np.maximum(rank[1:], rank[:-1])[twins]] = False
        return chosen[kept]

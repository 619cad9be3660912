from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...arrays import BoolArray, FloatArray, IntArray
from ...errors import InvalidOption
from ...inference.network import Rows
from ..sampling import Draws, Proposal
from ..schedule import Moment
from .ranking import Ranking

SURE = 0.9
CALM = 2
_TINY = 1e-12


@dataclass(kw_only=True)
class StableAndSure:
    """Reveal every position whose token is at least `SURE` probable and whose distribution has come to rest.

    At rest: at each of the last `CALM` steps, its Kullback-Leibler divergence from the step before was below `bound`
    nats. Where there is none, the first position is revealed; the last step reveals all that is left. Kim et al.,
    "KLASS: KL-Guided Fast Inference in Masked Diffusion Models" (arXiv 2511.05664), with the values it uses for Dream.

    Only the k best tokens of each step are known. What is not among them at both steps counts as one token, so that
    the divergence is never more than that of the whole vocabulary. A position that moves, because a hole grows, is
    compared with what stood in its place before.
    """

    ranking: Ranking
    bound: float = 0.001
    _positions: IntArray = field(init=False, default_factory=lambda: np.empty(0, np.int64))
    """[asked] at the last step, ascending."""
    _ids: IntArray = field(init=False, default_factory=lambda: np.empty((0, 0), np.int64))
    _probs: FloatArray = field(init=False, default_factory=lambda: np.empty((0, 0), np.float32))
    _calm: IntArray = field(init=False, default_factory=lambda: np.empty(0, np.int64))
    """[asked] for how many steps each has been at rest."""

    def __post_init__(self) -> None:
        if not 0 < self.bound < float("inf"):
            raise InvalidOption("klass", self.bound, "must be positive")

    def ask(self, masked: int, moment: Moment, draws: Draws) -> IntArray:
        return np.arange(masked)

    def choose(self, proposal: Proposal, rows: Rows, positions: IntArray, moment: Moment, draws: Draws) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        at_rest = self._remember(rows, positions)
        if moment.last:
            return best_first
        ready = (at_rest & (proposal.probability >= SURE))[best_first]
        if not ready.any():
            ready[0] = True
        return best_first[ready]

    def _remember(self, rows: Rows, positions: IntArray) -> BoolArray:
        """Which of `positions` [asked] are at rest, given what is said of them now."""
        known = np.isin(positions, self._positions)
        before = np.searchsorted(self._positions, positions[known])
        calm = np.zeros(len(positions), np.int64)
        moved = divergence(rows.top_ids[known], rows.top_probs[known], self._ids[before], self._probs[before])
        calm[known] = np.where(moved < self.bound, self._calm[before] + 1, 0)
        self._positions, self._ids, self._probs, self._calm = positions, rows.top_ids, rows.top_probs, calm
        return calm >= CALM


def divergence(
    ids: IntArray, probs: FloatArray, earlier_ids: IntArray, earlier_probs: FloatArray
) -> npt.NDArray[np.float64]:
    """KL [rows] of the distribution of `ids` [rows, k] from the earlier one [rows, k], in nats.

    Tokens that are not in both are taken together, and so is what neither names.
    """
    if not ids.size:
        return np.empty(0)
    offset = np.arange(len(ids))[:, None] * (1 + max(int(ids.max()), int(earlier_ids.max())))
    keys, earlier_keys = (ids + offset).ravel(), (earlier_ids + offset).ravel()
    order = np.argsort(earlier_keys)
    place = order[np.minimum(np.searchsorted(earlier_keys, keys, sorter=order), len(order) - 1)]
    shared = (earlier_keys[place] == keys).reshape(ids.shape)
    now = np.where(shared, probs, 0).astype(np.float64)
    then = np.where(shared, earlier_probs.ravel()[place].reshape(ids.shape), 0).astype(np.float64)
    rest, earlier_rest = (np.maximum(1 - each.sum(axis=1), 0) for each in (now, then))
    terms = (now * np.log((now + _TINY) / (then + _TINY))).sum(axis=1)
    total: npt.NDArray[np.float64] = terms + rest * np.log((rest + _TINY) / (earlier_rest + _TINY))
    return total

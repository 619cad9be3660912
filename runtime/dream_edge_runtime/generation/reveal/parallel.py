"""Reveals of several tokens at once, as many as are sure enough."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...arrays import BoolArray, FloatArray, IntArray
from ...errors import InvalidOption
from ...inference.network import Rows
from ..order import Ranking
from ..sampling import Proposal, UniformSource
from ..schedule import Timestep
from . import Reveal


@dataclass(frozen=True, kw_only=True)
class ConfidenceThreshold:
    """Reveal every position whose proposed token has a probability of at least `threshold`, and always the first one.

    `ranking` says which is first; what is compared is the probability of the proposed token, whatever the ranking goes
    by. The last step reveals all that is left. Wu et al., "Fast-dLLM" (arXiv 2505.22618), section 3.3.

    Where some of what was attended to came from an earlier pass, nothing is guessed: if no token is probable enough,
    none is revealed, and the step is made again with everything computed. This is ours: a guess from stale keys and
    values is often wrong (docs/decoding.md).
    """

    ranking: Ranking
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise InvalidOption("threshold", self.threshold, "must lie in (0, 1]")

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return np.arange(masked)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        if timestep.last:
            return best_first
        sure = proposal.probability[best_first] >= self.threshold
        sure[0] |= rows.fresh
        return best_first[sure]


@dataclass(frozen=True, kw_only=True)
class ConfidenceFactor:
    """Reveal the first n positions as long as (n + 1)(1 - c) < `factor`, and always the first one.

    c is the lowest probability among the n proposed tokens: the more positions are revealed together, the surer each of
    them must be for their joint choice to be the best one. The last step reveals all that is left. Wu et al.,
    "Fast-dLLM" (arXiv 2505.22618), section 3.3.
    """

    ranking: Ranking
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < float("inf"):
            raise InvalidOption("factor", self.factor, "must be positive")

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return np.arange(masked)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        if timestep.last:
            return best_first
        lowest = np.minimum.accumulate(proposal.probability[best_first].astype(np.float64))
        doubt = (np.arange(len(lowest)) + 2) * (1 - lowest)
        return best_first[: max(1, int((doubt < self.factor).sum()))]


@dataclass(frozen=True, kw_only=True)
class EntropyBound:
    """Reveal the first n positions whose entropies, all but the largest, sum to at most `bound` nats.

    That sum bounds how much the positions may still tell about each other, so how wrong it can be to draw them
    independently. One position is always revealed, and the last step reveals all that is left. Ben-Hamu et al.,
    "Accelerated Sampling from Masked Diffusion Models via Entropy Bounded Unmasking" (arXiv 2505.24857).
    """

    ranking: Ranking
    bound: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.bound < float("inf"):
            raise InvalidOption("entropy_bound", self.bound, "must be 0 or positive")

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return np.arange(masked)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        if timestep.last:
            return best_first
        entropy = np.maximum(-proposal.neg_entropy[best_first].astype(np.float64), 0)
        excess = np.cumsum(entropy) - np.maximum.accumulate(entropy)
        return best_first[: max(1, int((excess <= self.bound).sum()))]


ANCHOR = 0.9
RADIUS = 4


@dataclass(frozen=True, kw_only=True)
class LocalLeap:
    """Reveal every position whose token is at least `ANCHOR` probable, and near those less is enough.

    Within `RADIUS` places of such an anchor a token needs only the probability `relaxed`. The first position is always
    revealed, and the last step reveals all that is left. Kong et al., "Accelerating Diffusion LLM Inference via Local
    Determinism Propagation" (arXiv 2510.07081), with the anchors and the radius of its experiments.
    """

    ranking: Ranking
    relaxed: float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.relaxed <= ANCHOR:
            raise InvalidOption("local_leap", self.relaxed, f"must lie in (0, {ANCHOR}]")

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return np.arange(masked)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        if timestep.last:
            return best_first
        anchors = positions[proposal.probability >= ANCHOR]
        near: BoolArray = (np.abs(positions[:, None] - anchors) <= RADIUS).any(axis=1)
        sure: BoolArray = (near & (proposal.probability >= self.relaxed))[best_first]
        sure[0] = True
        revealed: IntArray = best_first[sure]
        return revealed


DECAY = 2.0


@dataclass(frozen=True, kw_only=True)
class EarlyExit:
    """Follow the schedule until the network is sure enough of all that is masked; then reveal it at once.

    Sure enough: the best logit lies above the second by at least `margin` · exp(-`DECAY` · progress) in the mean of the
    masked positions, where progress is the share of the steps that are made. Logits count after temperature. Until then
    each step reveals what the schedule grants, but at least one. Mohamed et al., "Fast-Decoding Diffusion Language
    Models via Progress-Aware Confidence Schedules" (arXiv 2512.02892), with the exponential schedule towards 0.
    """

    ranking: Ranking
    margin: float = 7.5

    def __post_init__(self) -> None:
        if not 0 < self.margin < float("inf"):
            raise InvalidOption("sched", self.margin, "must be positive")

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return np.arange(masked)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        margins = rows.top_logits[:, 0] - rows.top_logits[:, 1]
        needed = self.margin * math.exp(-DECAY * timestep.index / timestep.steps)
        if margins.mean(dtype=np.float64) >= needed:
            return best_first
        return best_first[: max(1, timestep.quota(len(positions)))]


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

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return np.arange(masked)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        at_rest = self._remember(rows, positions)
        if timestep.last:
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


@dataclass(frozen=True)
class Unrepeated:
    """What `reveal` chooses, but of two neighbours with the same token only the surer one, up to the last step.

    Tokens that are revealed together do not see each other, so a word whose place is uncertain by one comes twice ("the
    the"). The one that is held back is asked about again once the other stands. Runs of `exempt` tokens, which end and
    pad a text, are right.
    """

    reveal: Reveal
    exempt: frozenset[int] = frozenset()

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return self.reveal.ask(masked, timestep, draws)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        chosen = self.reveal.choose(proposal, rows, positions, timestep, draws)
        if timestep.last or len(chosen) < 2:
            return chosen
        rank = np.argsort(positions[chosen])  # from the left, how sure each is: 0 is the surest
        places, tokens = positions[chosen][rank], proposal.tokens[chosen][rank]
        twins = (np.diff(places) == 1) & (tokens[1:] == tokens[:-1]) & ~np.isin(tokens[1:], list(self.exempt))
        kept = np.ones(len(chosen), dtype=bool)
        kept[np.maximum(rank[1:], rank[:-1])[twins]] = False
        return chosen[kept]

"""How a token is drawn for a masked position, on rows of best-first logits: exact even where the k best are not enough.

Both filters keep a prefix of the tokens in order of probability, so what is kept is one number a row. The network's k
best tell that number unless the prefix may be longer than k; then the full logits of just these rows are fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..arrays import BoolArray, FloatArray, IntArray
from ..inference.network import Rows, softmax, sum_information


class UniformSource(Protocol):
    """Where uniform random numbers come from; `numpy.random.Generator` is one."""

    def random(self, size: int, /) -> npt.NDArray[np.float64]:
        """[size] numbers in [0, 1)."""
        ...


_OF_ROWS = ("tokens", "probability", "margin", "neg_entropy")


@dataclass(frozen=True)
class Proposal:
    """One token for each asked position, and how sure the network is of it."""

    tokens: IntArray
    """[rows] proposed ids."""
    probability: FloatArray
    """[rows] their probabilities."""
    margin: FloatArray
    """[rows] the best token's probability minus the second's."""
    neg_entropy: FloatArray
    """[rows] sum of p · log(p + 1e-10)."""
    judged: Proposal | None = None
    """The same tokens by the network's own distribution: at temperature 1, unfiltered. None: nobody asks for it."""

    def take(self, rows: IntArray) -> Proposal:
        """Those of `rows` [any]."""
        values = {name: getattr(self, name)[rows] for name in _OF_ROWS}
        return Proposal(**values, judged=self.judged.take(rows) if self.judged else None)


class Sampler(Protocol):
    """Proposes tokens. `temperature` is what the network is to divide the logits by (0 = not at all)."""

    @property
    def temperature(self) -> float: ...

    def propose(self, rows: Rows, draws: UniformSource) -> Proposal:
        """A token for each of `rows`, which were computed at `temperature`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which tokens may be drawn at all. First `top_p`, then `top_k` among what it leaves; None = off."""

    top_p: float | None = None
    top_k: int | None = None

    @property
    def active(self) -> bool:
        return self.top_k is not None or (self.top_p is not None and self.top_p < 1)

    def count_kept(self, rows: Rows) -> tuple[IntArray, BoolArray]:
        """How many of each row's best tokens are kept [rows], and whether its k best suffice to say so [rows].

        A token is kept by top-p as long as the probability of those before it does not exceed top_p, so the first one
        past the threshold stays; by top-k as long as its logit is not below the k-th best, so ties with that one stay.
        """
        width = rows.top_ids.shape[1]
        kept = np.full(rows.count, width)
        certain = np.zeros(rows.count, dtype=bool)
        if self.top_p is not None and self.top_p < 1:
            cumulative = cumulate(rows.top_probs).astype(np.float32)
            nucleus = (cumulative <= np.float32(self.top_p)).sum(axis=1) + 1
            kept = np.minimum(kept, nucleus)
            certain |= nucleus <= width
        if self.top_k is not None and self.top_k <= width:
            ranked = (rows.top_logits >= rows.top_logits[:, self.top_k - 1, None]).sum(axis=1)
            kept = np.minimum(kept, ranked)
            certain |= ranked < width
        return kept, certain


NO_FILTERS = Filters()
_ROUNDING = 1e-6  # of a sum of probabilities in fp32
_WITHOUT_BOUND = 1e300


@dataclass(frozen=True)
class Candidates:
    """The tokens that may be drawn, best first, and their probabilities after filtering."""

    ids: IntArray
    """[rows, width]"""
    probs: FloatArray
    """[rows, width]; 0 where filtered out."""
    neg_entropy: FloatArray
    """[rows] of the filtered distribution."""

    def proposal(self, choice: IntArray) -> Proposal:
        """Propose the token at column `choice` [rows] of each row."""
        row = np.arange(len(choice))
        return Proposal(
            tokens=self.ids[row, choice],
            probability=self.probs[row, choice],
            margin=self.probs[:, 0] - self.probs[:, 1],
            neg_entropy=self.neg_entropy,
        )


def filter_rows(rows: Rows, kept: IntArray) -> Candidates:
    """Keep the first `kept` [rows] tokens of each of `rows`."""
    width = max(2, int(kept.max()))
    logits = np.where(np.arange(width) < kept[:, None], rows.top_logits[:, :width], np.float32(-np.inf))
    probs, _ = softmax(logits)
    return Candidates(rows.top_ids[:, :width], probs, sum_information(probs))


def keep_all(rows: Rows) -> Candidates:
    """Filter nothing. The probabilities of the k best need not sum to 1."""
    return Candidates(rows.top_ids, rows.top_probs, rows.neg_entropy)


def cumulate(probs: FloatArray) -> npt.NDArray[np.float64]:
    """Running sums of `probs` [rows, width], in double precision."""
    return np.cumsum(probs, axis=1, dtype=np.float64)


def propose_exactly(
    rows: Rows, enough: BoolArray, temperature: float, propose: Callable[[Rows, IntArray], Proposal]
) -> Proposal:
    """Call `propose(rows, indices)`, with the whole vocabulary for those rows where the k best are not `enough`.

    `indices` tell which of the original rows it was handed.
    """
    near, far = np.flatnonzero(enough), np.flatnonzero(~enough)
    if not far.size:
        return propose(rows, near)
    logits = rows.fetch_logits()[far]
    full = propose(Rows.from_logits(logits, temperature, logits.shape[1]), far)
    if not near.size:
        return full
    reduced = propose(rows.take(near), near)
    back = np.argsort(np.concatenate([near, far]))
    return _concatenate(reduced, full, back)


def merge_proposals(proposal: Proposal, places: IntArray, other: Proposal) -> Proposal:
    """`proposal`, with those of `other` [places] at `places`."""
    kept = np.arange(len(proposal.tokens))
    kept[places] = len(proposal.tokens) + np.arange(len(places))
    return _concatenate(proposal, other, kept)


def _concatenate(first: Proposal, second: Proposal, order: IntArray) -> Proposal:
    values = {name: np.concatenate([getattr(first, name), getattr(second, name)])[order] for name in _OF_ROWS}
    judged = _concatenate(first.judged, second.judged, order) if first.judged and second.judged else None
    return Proposal(**values, judged=judged)


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """Propose the most probable token. The filters change how sure it looks, not which one it is."""

    filters: Filters = NO_FILTERS

    @property
    def temperature(self) -> float:
        return 0.0

    def propose(self, rows: Rows, draws: UniformSource) -> Proposal:
        best = np.zeros(rows.count, dtype=np.int64)
        if not self.filters.active:
            return keep_all(rows).proposal(best)

        def propose(some: Rows, indices: IntArray) -> Proposal:
            return filter_rows(some, self.filters.count_kept(some)[0]).proposal(best[indices])

        return propose_exactly(rows, self.filters.count_kept(rows)[1], self.temperature, propose)


@dataclass(frozen=True, kw_only=True)
class Multinomial:
    """Draw each token from softmax(logits / temperature) after filtering.

    One uniform number a row is drawn first and looked up in the running sum of the probabilities, best token first, so
    that the full logits are needed only where it lies beyond the k best.
    """

    temperature: float
    filters: Filters = NO_FILTERS

    def propose(self, rows: Rows, draws: UniformSource) -> Proposal:
        uniform = draws.random(rows.count)
        if self.filters.active:
            enough = self.filters.count_kept(rows)[1]
        else:
            enough = uniform < cumulate(rows.top_probs)[:, -1]

        def propose(some: Rows, indices: IntArray) -> Proposal:
            distribution = (
                filter_rows(some, self.filters.count_kept(some)[0]) if self.filters.active else keep_all(some)
            )
            return distribution.proposal(_look_up(distribution.probs, uniform[indices]))

        return propose_exactly(rows, enough, self.temperature, propose)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Draw each token as `Greedy` or `Multinomial` does, and judge it by the network's own distribution besides.

    For reveals that ask how sure a token is. A low temperature or a filter makes every token look sure, and a token
    that was drawn against the odds is not sure, however it was drawn.

    The pass is reduced at temperature 1, so the total of the distribution that is drawn from is known between two
    bounds only: below a temperature of 1, what the k best leave out weighs at most as much as if all of it were as
    probable as the last of them. Where both bounds give the same token that is the one; elsewhere, and above a
    temperature of 1, the full logits are fetched.
    """

    draw_temperature: float
    filters: Filters = NO_FILTERS

    @property
    def temperature(self) -> float:
        return 0.0

    def propose(self, rows: Rows, draws: UniformSource) -> Proposal:
        if self.draw_temperature == 0:
            drawn = Greedy(filters=self.filters).propose(rows, draws)
            return replace(drawn, judged=keep_all(rows).proposal(np.zeros(rows.count, dtype=np.int64)))
        uniform = draws.random(rows.count)
        logits = _below_the_best(rows)
        exponent = 1 / self.draw_temperature - 1
        most = np.maximum(1 - rows.top_probs.sum(axis=1, dtype=np.float64), 0) + _ROUNDING
        most *= np.exp(logits[:, -1] * exponent) / rows.top_probs[:, 0] if exponent >= 0 else _WITHOUT_BOUND
        least = most if exponent == 0 else np.zeros(rows.count)
        (probs, column), (_, other) = (self._look_up(logits, uniform, tail) for tail in (least, most))
        enough: BoolArray = (column == other) & (column < logits.shape[1])

        def propose(some: Rows, indices: IntArray) -> Proposal:
            found, drawn = probs[indices], column[indices]
            if not enough[indices].all():
                found, drawn = self._look_up(_below_the_best(some), uniform[indices], np.zeros(some.count))
            rounded = found.astype(np.float32)
            candidates = Candidates(some.top_ids, rounded, sum_information(rounded))
            return replace(candidates.proposal(drawn), judged=keep_all(some).proposal(drawn))

        return propose_exactly(rows, enough, self.temperature, propose)

    def _look_up(
        self, logits: npt.NDArray[np.float64], uniform: npt.NDArray[np.float64], tail: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], IntArray]:
        """Filtered probabilities [rows, width] of best-first `logits` [rows, width], and the column [rows] that each
        number of `uniform` [rows] falls into.

        `tail` [rows] is the weight of all tokens that have no column; the best token's is 1. The more it is, the
        further to the right the column. `width` says that the columns do not reach that far.
        """
        width = logits.shape[1]
        weights = np.exp(logits / self.draw_temperature)
        cumulative = np.cumsum(weights, axis=1)
        total = cumulative[:, -1] + tail
        kept = np.where(tail > 0, width + 1, width)
        top_p, top_k = self.filters.top_p, self.filters.top_k
        if top_p is not None and top_p < 1:
            kept = np.minimum(kept, (cumulative <= top_p * total[:, None]).sum(axis=1) + 1)
        if top_k is not None and top_k <= width:
            ranked = (logits >= logits[:, top_k - 1, None]).sum(axis=1)
            kept = np.minimum(kept, np.where((ranked == width) & (tail > 0), width + 1, ranked))
        inside = np.take_along_axis(cumulative, np.minimum(kept, width)[:, None] - 1, axis=1)[:, 0]
        total = np.where(kept > width, total, inside)
        column: IntArray = np.minimum((cumulative <= (uniform * total)[:, None]).sum(axis=1), kept - 1)
        probs = np.where(np.arange(width) < kept[:, None], weights, 0) / total[:, None]
        return probs, np.where(self.filters.active & (kept > width), width, column)


def _below_the_best(rows: Rows) -> npt.NDArray[np.float64]:
    """The logits [rows, k] less the best of their row."""
    return rows.top_logits.astype(np.float64) - rows.top_logits[:, :1]


def _look_up(probs: FloatArray, uniform: npt.NDArray[np.float64]) -> IntArray:
    """The column [rows] of best-first `probs` [rows, width] that each number of `uniform` [rows] falls into."""
    column = (cumulate(probs) <= uniform[:, None]).sum(axis=1)
    possible = (probs > 0).sum(axis=1)  # rounding may leave the sum short of a number just below 1
    chosen: IntArray = np.minimum(column, possible - 1)
    return chosen

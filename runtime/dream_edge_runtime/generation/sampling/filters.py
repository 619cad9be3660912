"""Top-p and top-k on rows of best-first logits, exact even where the k best are not enough.

Both filters keep a prefix of the tokens in order of probability, so what is kept is one number a row. The network's k
best tell that number unless the prefix may be longer than k; then the full logits of just these rows are fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...arrays import BoolArray, FloatArray, IntArray
from ...errors import InvalidOption
from ...inference.network import Rows, sum_in_lanes
from . import Proposal


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which tokens may be drawn at all. First `top_p`, then `top_k` among what it leaves; None = off."""

    top_p: float | None = None
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InvalidOption("top_p", self.top_p, "must lie in (0, 1]")
        if self.top_k is not None and self.top_k < 1:
            raise InvalidOption("top_k", self.top_k, "must be an integer of at least 1")

    @property
    def active(self) -> bool:
        return self.top_k is not None or (self.top_p is not None and self.top_p < 1)

    def kept(self, rows: Rows) -> tuple[IntArray, BoolArray]:
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


def candidates(rows: Rows, kept: IntArray) -> Candidates:
    """The distribution of `rows` over their first `kept` [rows] tokens."""
    width = max(2, int(kept.max()))
    ids, logits = rows.top_ids[:, :width], rows.top_logits[:, :width]
    inside = np.arange(width) < kept[:, None]
    exponentials: FloatArray = np.where(inside, np.exp(logits - logits[:, :1]), 0).astype(np.float32, copy=False)
    probs: FloatArray = exponentials / sum_in_lanes(exponentials, ids)[:, None]
    information = probs * np.log(probs + np.float32(1e-10))
    # Summed in double precision: the result then does not depend on how many columns hold zeros.
    return Candidates(ids, probs, information.sum(axis=1, dtype=np.float64).astype(np.float32))


def unfiltered(rows: Rows) -> Candidates:
    """The distribution of `rows` as it is; the probabilities of the k best need not sum to 1."""
    return Candidates(rows.top_ids, rows.top_probs, rows.neg_entropy)


def cumulate(probs: FloatArray) -> npt.NDArray[np.float64]:
    """Running sums of `probs` [rows, width], in double precision."""
    return np.cumsum(probs, axis=1, dtype=np.float64)


def with_full_rows(
    rows: Rows, enough: BoolArray, temperature: float, propose: Callable[[Rows, IntArray], Proposal]
) -> Proposal:
    """What `propose(rows, indices)` says, given the whole vocabulary for those rows where the k best are not `enough`.

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
    return Proposal(
        *(
            np.concatenate([getattr(reduced, name), getattr(full, name)])[back]
            for name in ("tokens", "probability", "margin", "neg_entropy")
        )
    )

"""Errors of what is measured. Positions of one sequence depend on each other, so the units are sequences.

Shares of solved cases have a test and an interval of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.arrays import IntArray

from .differences import DoubleArray

RESAMPLES = 200
_SEED = 0


def mean_error(sequences: Sequence[DoubleArray]) -> float:
    """Standard error of the mean over all positions.

    Linearised ratio estimator (Cochran, Sampling Techniques, section 9.3); with one position a sequence it is the
    usual s / √n. 0 for a single sequence, which says nothing about others.
    """
    count = len(sequences)
    if count < 2:
        return 0.0
    sums = np.array([part.sum() for part in sequences])
    sizes = np.array([len(part) for part in sequences])
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    return float(np.sqrt(count / (count - 1) * (residuals**2).sum()) / sizes.sum())


def quantile_errors(sequences: Sequence[DoubleArray], shares: Sequence[float]) -> DoubleArray:
    """Standard errors of the quantiles at `shares` (0 to 1) of all positions, by bootstrap over whole sequences.

    Whole sequences are drawn with replacement (Davison and Hinkley, Bootstrap Methods, section 3.8), from a fixed
    seed, and the quantiles are interpolated as NumPy does. Extremes have no useful error: the largest value of a
    sample says little about how much larger the next one's would be, so that of share 0 or 1 is NaN. 0 for a single
    sequence, which says nothing about others.
    """
    wanted = np.asarray(shares, np.float64)
    extreme = (wanted <= 0) | (wanted >= 1)
    if len(sequences) < 2:
        return np.where(extreme, np.nan, 0.0)
    values = np.concatenate(sequences)
    order = np.argsort(values, kind="stable")
    owner = np.repeat(np.arange(len(sequences)), [len(part) for part in sequences])[order]
    ascending = values[order]
    found = [_quantiles(ascending, drawn[owner], wanted) for drawn in resamples(len(sequences))]
    return np.where(extreme, np.nan, np.std(found, axis=0, ddof=1))


def correlation(first: DoubleArray, second: DoubleArray) -> tuple[float, float]:
    """Pearson's correlation of two figures of the same sequences and its bootstrap error; NaN where undefined."""
    if len(first) < 2:
        return float("nan"), float("nan")
    once: IntArray = np.ones((1, len(first)), np.int64)
    found = _correlations(first, second, np.concatenate([once, resamples(len(first))]))
    usable = found[1:][np.isfinite(found[1:])]
    return float(found[0]), float(usable.std(ddof=1)) if len(usable) > 1 else float("nan")


def mcnemar(reference: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Two-sided exact p-value of a paired difference (McNemar's test: binomial on the cases that differ)."""
    better, worse = int((other & ~reference).sum()), int((reference & ~other).sum())
    differing = better + worse
    tail: int = sum(math.comb(differing, count) for count in range(min(better, worse) + 1))
    return float(min(1.0, 2 * tail / 2**differing))  # integers until the division: nothing overflows


def wilson(solved: int, cases: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson, JASA 22, 1927); it has a width even where all are solved."""
    z = 1.959963984540054
    share, weight = solved / cases, z * z / cases
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def resamples(count: int) -> NDArray[np.int64]:
    """How often each of `count` sequences is drawn, in each of `RESAMPLES` samples [resamples, count]."""
    return np.random.default_rng(_SEED).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)


def _quantiles(ascending: DoubleArray, times: IntArray, shares: DoubleArray) -> DoubleArray:
    """The quantiles of the sample that holds the `ascending` values as many `times` each."""
    last = np.cumsum(times)
    place = shares * (last[-1] - 1)
    low = np.floor(place)
    edges = last.searchsorted(np.concatenate([low, np.ceil(place)]), side="right")
    below, above = ascending[edges[: len(shares)]], ascending[edges[len(shares) :]]
    found: DoubleArray = below + (place - low) * (above - below)
    return found


def _correlations(first: DoubleArray, second: DoubleArray, times: IntArray) -> DoubleArray:
    """[samples] of samples that hold each sequence as often as `times` [samples, sequences] says."""
    count = times.sum(axis=1)
    x, y = (values - values.mean() for values in (first, second))  # nothing cancels that need not
    mean_x, mean_y = times @ x / count, times @ y / count
    shared = times @ (x * y) / count - mean_x * mean_y
    spreads = np.maximum((times @ x**2 / count - mean_x**2) * (times @ y**2 / count - mean_y**2), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: DoubleArray = np.clip(shared / np.sqrt(spreads), -1, 1)
    return found

"""Standard errors where positions of one sequence depend on each other: the units are sequences, not positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.arrays import IntArray

from .measures import DoubleArray

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
    ones: IntArray = np.ones(len(first), np.int64)
    found = [_correlation(first, second, drawn) for drawn in resamples(len(first))]
    usable = [value for value in found if np.isfinite(value)]
    error = float(np.std(usable, ddof=1)) if len(usable) > 1 else float("nan")
    return _correlation(first, second, ones), error


def resamples(count: int) -> NDArray[np.int64]:
    """How often each of `count` sequences is drawn, in each of `RESAMPLES` samples [resamples, count]."""
    return np.random.default_rng(_SEED).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)


def _quantiles(ascending: DoubleArray, times: IntArray, shares: DoubleArray) -> DoubleArray:
    """Those of the sample that holds each of the `ascending` values so many `times`."""
    last = np.cumsum(times)
    place = shares * (last[-1] - 1)
    low, high = np.floor(place), np.ceil(place)
    below, above = (ascending[np.searchsorted(last, edge, side="right")] for edge in (low, high))
    found: DoubleArray = below + (place - low) * (above - below)
    return found


def _correlation(first: DoubleArray, second: DoubleArray, times: IntArray) -> float:
    x, y = (values - np.average(values, weights=times) for values in (first, second))
    scale = float(np.sqrt((times * x * x).sum() * (times * y * y).sum()))
    return float((times * x * y).sum()) / scale if scale > 0 else float("nan")

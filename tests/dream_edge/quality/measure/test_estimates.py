"""The test, the interval and the error of shares of solved cases, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from dream_edge.quality.measure.estimates import mcnemar, mean_error, wilson


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_the_binomial_test_on_the_cases_that_differ(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random(200) < 0.9, rng.random(200) < 0.85
    better, worse = int((second & ~first).sum()), int((first & ~second).sum())
    assert mcnemar(first, second) == pytest.approx(binomtest(better, better + worse).pvalue)
    assert mcnemar(first, first) == 1


def test_many_cases_that_differ_do_not_overflow() -> None:
    assert mcnemar(np.zeros(3000, bool), np.ones(3000, bool)) == 0


@pytest.mark.parametrize(("solved", "cases"), [(0, 20), (20, 20), (3, 7), (970, 1000)])
def test_interval_of_a_share_is_wilsons(solved: int, cases: int) -> None:
    expected = binomtest(solved, cases).proportion_ci(0.95, method="wilson")
    assert wilson(solved, cases) == pytest.approx((expected.low, expected.high))


def test_error_of_a_paired_difference_is_that_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.random(300) < 0.9, rng.random(300) < 0.8
    differences = second.astype(float) - first
    statistic = ttest_rel(second.astype(float), first.astype(float)).statistic
    assert differences.mean() / mean_error([*differences[:, None]]) == pytest.approx(statistic)
    assert mean_error([*differences[:1, None]]) == 0

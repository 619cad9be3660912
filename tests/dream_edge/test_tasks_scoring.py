"""Scores of the tasks, and the test of a paired difference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

import dream_edge
from dream_edge.tasks.scoring import TASKS, mcnemar, paired_error, wilson


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
    statistic = ttest_rel(second.astype(float), first.astype(float)).statistic
    assert (second.mean() - first.mean()) / paired_error(first, second) == pytest.approx(statistic)
    assert paired_error(first, first) == paired_error(first[:1], second[:1]) == 0


@pytest.mark.parametrize("task", TASKS)
def test_each_task_counts_what_it_took(task: str) -> None:
    model = dream_edge.load("tiny", threads=1)
    done: list[int] = []
    fast, slow = (TASKS[task](model, 8, options, done.append) for options in ({}, {"algorithm": "left_to_right"}))
    assert done[-1] == 8
    for scores in (fast, slow):
        assert len(scores.solved) == len(scores.passes) == len(scores.tokens) == 8
        assert (scores.passes > 0).all()
        assert (scores.tokens > 0).all()
    if task != "sentences":
        assert fast.passes.sum() < slow.passes.sum()
    if task != "Countdown":
        assert fast.solved.mean() > 0.7

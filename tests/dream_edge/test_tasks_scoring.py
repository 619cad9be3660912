"""Scores of the tasks, and the test of a paired difference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

import dream_edge
from dream_edge.tasks.scoring import TASKS, mcnemar


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_the_binomial_test_on_the_cases_that_differ(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random(200) < 0.9, rng.random(200) < 0.85
    better, worse = int((second & ~first).sum()), int((first & ~second).sum())
    assert mcnemar(first, second) == pytest.approx(binomtest(better, better + worse).pvalue)
    assert mcnemar(first, first) == 1


def test_many_cases_that_differ_do_not_overflow() -> None:
    assert mcnemar(np.zeros(3000, bool), np.ones(3000, bool)) == 0


@pytest.mark.parametrize("task", TASKS)
def test_each_task_counts_what_it_took(task: str) -> None:
    model = dream_edge.load("tiny", threads=1)
    fast, slow = (TASKS[task](model, 8, options) for options in ({}, {"algorithm": "left_to_right"}))
    for scores in (fast, slow):
        assert len(scores.solved) == len(scores.passes) == len(scores.tokens) == 8
        assert (scores.passes > 0).all()
        assert (scores.tokens > 0).all()
    if task != "sentences":
        assert fast.passes.sum() < slow.passes.sum()
    if task != "Countdown":
        assert fast.solved.mean() > 0.7

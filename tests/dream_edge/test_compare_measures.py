"""The figures of a comparison, against SciPy and against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, rel_entr, softmax

from dream_edge.quality.estimates import mean_error
from dream_edge.quality.measures import Differences, differences
from dream_edge.quality.report import measure


def log(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


def test_hand_worked_example_of_three_tokens() -> None:
    """p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): KL = 1/2 log 2 - 1/4 log 2 = 1/4 log 2."""
    reference = np.array([log(0.5, 0.25, 0.25)], np.float32)
    artifact = np.array([log(0.25, 0.5, 0.25)], np.float32)
    found = differences(reference, artifact, np.array([1]))
    assert found.kl[0] == pytest.approx(math.log(2) / 4, rel=1e-6)
    assert found.reference_loss[0] == pytest.approx(math.log(4), rel=1e-6)
    assert found.artifact_loss[0] == pytest.approx(math.log(2), rel=1e-6)
    assert found.same_top.tolist() == [False]


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 70])
def test_kl_equals_scipys_relative_entropy(rows: int) -> None:
    rng = np.random.default_rng(rows)
    reference = (5 * rng.standard_normal((rows, 300))).astype(np.float32)
    artifact = reference + rng.standard_normal((rows, 300)).astype(np.float32)
    targets = rng.integers(300, size=rows)
    p, q = softmax(reference.astype(np.float64), axis=1), softmax(artifact.astype(np.float64), axis=1)
    found = differences(log_softmax(reference.astype(np.float64), axis=1), artifact, targets)
    np.testing.assert_allclose(found.kl, rel_entr(p, q).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.reference_loss, -np.log(p[np.arange(rows), targets]), rtol=1e-9)
    np.testing.assert_allclose(found.artifact_loss, -np.log(q[np.arange(rows), targets]), rtol=1e-9)
    assert (found.same_top == (p.argmax(axis=1) == q.argmax(axis=1))).all()


def test_kl_is_that_of_the_reference_to_the_artifact() -> None:
    sharp, flat = np.array([[9.0, 0, 0]], np.float32), np.zeros((1, 3), np.float32)
    target = np.array([0])
    assert differences(log_softmax(sharp, axis=1), flat, target).kl[0] == pytest.approx(math.log(3), rel=0.01)
    assert differences(log_softmax(flat, axis=1), sharp, target).kl[0] > 4


def test_logits_far_apart_stay_finite() -> None:
    """A difference of 200 is a probability that fp32 cannot hold."""
    reference, artifact = np.array([[200.0, 0, -200]], np.float32), np.array([[-200.0, 0, 200]], np.float32)
    found = differences(log_softmax(reference, axis=1), artifact, np.array([0]))
    assert found.kl[0] == pytest.approx(400)
    assert found.artifact_loss[0] == pytest.approx(400)


def test_equal_logits_agree_on_the_lowest_id() -> None:
    tied, low = np.array([[1.0, 1.0, 0]], np.float32), np.array([[1.0, 0.9, 0]], np.float32)
    assert differences(log_softmax(tied, axis=1), low, np.array([0])).same_top.tolist() == [True]


def sequence(kl: list[float], same: list[bool] | None = None, reference: float = 1, artifact: float = 1) -> Differences:
    ones: NDArray[np.float64] = np.ones(len(kl))
    return Differences(np.array(kl), np.array(same or [True] * len(kl)), reference * ones, artifact * ones)


def test_figures_of_known_sequences() -> None:
    found = measure([sequence([1, 2, 3], [True, True, False], 2, 3), sequence([10], [False], 4, 4)])
    assert (found.positions, found.sequences) == (4, 2)
    assert (found.kl_mean, found.kl_median) == (4, 2.5)
    assert found.kl_p99 == pytest.approx(np.percentile([1, 2, 3, 10], 99))
    assert found.same_top == 0.5
    assert (found.elbo_reference, found.elbo_artifact, found.delta_elbo) == (-3, -3.5, -0.5)


def test_standard_error_of_single_positions_is_the_usual_one() -> None:
    values = np.random.default_rng(0).random(50)
    found = measure([sequence([value], artifact=value) for value in values])
    expected = values.std(ddof=1) / math.sqrt(50)
    assert found.kl_mean_se == pytest.approx(expected)
    assert found.delta_elbo_se == pytest.approx(expected)


def test_positions_of_one_sequence_do_not_count_as_independent() -> None:
    """Ten copies of a sequence's figure carry no more information than one."""
    values = np.random.default_rng(1).random(30)
    once = measure([sequence([value]) for value in values])
    ten = measure([sequence([value] * 10) for value in values])
    assert ten.kl_mean_se == pytest.approx(once.kl_mean_se)


def test_standard_error_covers_the_truth_as_often_as_it_should() -> None:
    """Two standard errors hold about 95 % of 400 means over 60 sequences of uneven length."""
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(400):
        centres = 1 + 0.3 * rng.standard_normal(60)
        drawn = [centre + 0.1 * rng.standard_normal(rng.integers(1, 9)) for centre in centres]
        hits += abs(np.concatenate(drawn).mean() - 1) < 2 * mean_error(drawn)
    assert 0.91 < hits / 400 < 0.98


def test_one_sequence_has_no_standard_error() -> None:
    assert measure([sequence([1, 2])]).kl_mean_se == 0

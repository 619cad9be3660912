"""The figures of a comparison, against SciPy and against numbers worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import pearsonr

from dream_edge.quality.measure.differences import Differences, differences
from dream_edge.quality.measure.estimates import mean_error, quantile_errors, resamples
from dream_edge.quality.measure.figures import KL_EDGES, Figures, figures, measure


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
    assert found.gain[0] == pytest.approx(1 / 4, rel=1e-6)


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


def test_perplexity_and_probability_figures_worked_out_by_hand() -> None:
    """One sequence gives its token 1/2 instead of 1/4, the other 1/8 instead of 1/4."""
    quarter, half, eighth = math.log(4), math.log(2), math.log(8)
    found = measure([sequence([0], None, quarter, half), sequence([0], None, quarter, eighth)])
    assert found.ppl_reference == pytest.approx(4)
    assert found.ppl_artifact == pytest.approx(4)
    assert found.ppl_ratio == pytest.approx(1)
    assert found.dp_mean == pytest.approx((1 / 4 - 1 / 8) / 2)
    assert found.dp_rms == pytest.approx(math.sqrt((1 / 16 + 1 / 64) / 2))
    assert found.delta_elbo_se == pytest.approx(half)  # of +log 2 and -log 2: s = √2 log 2, over √2
    assert found.ppl_ratio_se == pytest.approx(half)
    assert found.correlation is None  # the reference's two are alike


def test_correlation_and_quantiles_equal_scipys() -> None:
    drawn = random_sequences(40)
    found = measure(drawn)
    reference, artifact = (
        [-getattr(each, name).mean() for each in drawn] for name in ("reference_loss", "artifact_loss")
    )
    assert found.correlation == pytest.approx(pearsonr(reference, artifact).statistic)
    for name, quantiles in (("kl", found.kl_quantiles), ("gain", found.dp_quantiles)):
        values = np.concatenate([getattr(each, name) for each in drawn])
        for each in quantiles:
            assert each.value == pytest.approx(np.percentile(values, each.percent), abs=1e-12)
    assert [each.percent for each in found.kl_quantiles if each.error is None] == [100, 0]
    assert (found.kl_max, found.kl_p999) == (found.kl_quantiles[0].value, found.kl_quantiles[1].value)
    assert found.kl_max == max(each.kl.max() for each in drawn)


def test_errors_of_quantiles_are_those_of_samples_written_out() -> None:
    """The same resamples, each put together sequence by sequence."""
    drawn = [each.kl for each in random_sequences(9)]
    shares = [0.5, 0.99, 0.001]
    samples = []
    for row in resamples(9):
        parts = [part for part, times in zip(drawn, row, strict=True) for _ in range(times)]
        samples.append(np.quantile(np.concatenate(parts), shares))
    np.testing.assert_allclose(quantile_errors(drawn, shares), np.std(samples, axis=0, ddof=1), rtol=1e-9)


def test_error_of_a_median_is_the_asymptotic_one() -> None:
    """√(π / 2n) for independent normal values."""
    values = np.random.default_rng(5).standard_normal(1000)
    (found,) = quantile_errors([*values[:, None]], [0.5])
    assert found == pytest.approx(math.sqrt(math.pi / 2000), rel=0.25)


def test_histogram_counts_every_position_once() -> None:
    found = measure([sequence([0, 1e-12, 2e-5, 2.1e-5]), sequence([0.5, 1e6])])
    counts = dict(zip(KL_EDGES, found.kl_histogram, strict=False))
    assert sum(found.kl_histogram) == found.positions == 6
    assert found.kl_histogram[0] == 2
    assert found.kl_histogram[-1] == 1
    assert counts[max(edge for edge in KL_EDGES if edge <= 2e-5)] == 2
    assert counts[max(edge for edge in KL_EDGES if edge <= 0.5)] == 1


def test_figures_are_json_and_come_back() -> None:
    found = figures([(index % 3, each) for index, each in enumerate(random_sequences(12))], bins=3)
    assert Figures.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found
    overall = found.to_dict()["overall"]
    assert overall["kl_p99"] == found.overall.kl_p99
    assert overall["ppl_artifact"] == pytest.approx(math.exp(-overall["elbo_artifact"]))


def test_ruined_artifact_has_figures_that_json_can_hold() -> None:
    """A loss of 1000 nats is a perplexity beyond what a float holds."""
    found = measure([sequence([1000], artifact=1000), sequence([900], artifact=1000)])
    assert found.to_dict()["ppl_artifact"] is None
    json.dumps(found.to_dict(), allow_nan=False)


@settings(deadline=None)
@given(logits=arrays(np.float32, (2, 5, 7), elements=st.integers(-480, 480).map(lambda eighths: eighths / 8)))
def test_divergence_is_never_negative_and_that_of_equals_is_nothing(logits: NDArray[np.float32]) -> None:
    targets = np.arange(5)
    log_p = log_softmax(logits[0].astype(np.float64), axis=1)
    assert (differences(log_p, logits[1], targets).kl >= 0).all()
    equal = measure([differences(log_p, logits[0], targets)])
    assert equal.kl_max < 1e-12
    assert equal.same_top == 1
    assert abs(equal.delta_elbo) < 1e-12
    assert equal.dp_rms < 1e-12


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(8)))
def test_order_of_the_sequences_changes_nothing(order: list[int]) -> None:
    drawn = random_sequences(8)
    one, other = measure(drawn), measure([drawn[index] for index in order])
    for name in ("kl_mean", "kl_p99", "kl_mean_se", "same_top", "same_top_se", "dp_rms", "dp_rms_se", "delta_elbo"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9)
    assert other.correlation == pytest.approx(one.correlation)
    assert other.kl_histogram == one.kl_histogram


def random_sequences(count: int, seed: int = 3) -> list[Differences]:
    """Sequences of 1 to 12 positions."""
    rng = np.random.default_rng(seed)
    found = []
    for size in rng.integers(1, 13, size=count):
        loss = rng.exponential(size=size)
        kl, near = rng.exponential(0.01, size=size), loss * np.exp(0.1 * rng.standard_normal(size))
        found.append(Differences(kl, rng.random(size) < 0.9, loss, near))
    return found


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

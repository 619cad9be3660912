"""Log-probabilities in 16 bits: what that does to a KL divergence, from an oracle in longer floats."""

from __future__ import annotations

import numpy as np
import pytest

from dream_edge.quality.reference.file import DEEPEST, decode, encode
from dream_edge_runtime.arrays import FloatArray

VOCAB = 152064
SHAPES = {  # standard deviation of the logits, and by how much one of them stands out
    "flat": (0.1, 0.0),
    "broad": (1.0, 0.0),
    "like a language model": (3.0, 0.0),
    "peaked": (2.0, 25.0),
    "certain": (3.0, 60.0),
}


def distribution(scale: float, peak: float, rows: int = 4) -> FloatArray:
    rng = np.random.default_rng(5)
    logits = (scale * rng.standard_normal((rows, VOCAB))).astype(np.float32)
    logits[np.arange(rows), rng.integers(VOCAB, size=rows)] += np.float32(peak)
    return logits


def exact(logits: FloatArray) -> np.ndarray[tuple[int, int], np.dtype[np.longdouble]]:
    wide = logits.astype(np.longdouble)
    wide -= wide.max(axis=1, keepdims=True)
    result: np.ndarray[tuple[int, int], np.dtype[np.longdouble]] = wide - np.log(
        np.exp(wide).sum(axis=1, keepdims=True)
    )
    return result


@pytest.mark.parametrize(("scale", "peak"), SHAPES.values(), ids=SHAPES)
def test_kl_to_what_went_in_is_below_a_ten_millionth(scale: float, peak: float) -> None:
    logits = distribution(scale, peak)
    log_p, kept = exact(logits), decode(encode(logits))
    assert (np.exp(log_p) * (log_p - kept)).sum(axis=1).max() < 2e-8


@pytest.mark.parametrize(("scale", "peak"), SHAPES.values(), ids=SHAPES)
def test_kl_to_another_network_changes_by_less_than_a_thousandth_of_int8s(scale: float, peak: float) -> None:
    """Against a network that differs in every logit; int8 costs about 0.002 nats."""
    logits = distribution(scale, peak)
    noise = np.random.default_rng(6).standard_normal(logits.shape).astype(np.float32)
    log_p, kept, log_q = exact(logits), decode(encode(logits)), exact(logits + np.float32(0.02) * noise)
    before = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    after = (np.exp(kept) * (kept - log_q)).sum(axis=1)
    assert abs(after - before).max() < 1e-6


def test_probabilities_add_up_to_one() -> None:
    kept = decode(encode(distribution(3.0, 0.0)))
    np.testing.assert_allclose(np.exp(kept).sum(axis=1), 1, atol=1e-12)


def test_the_best_token_and_near_ties_stay_in_order() -> None:
    logits = distribution(2.0, 0.0, rows=1)
    logits[0, [7, 70, 700]] = [30.0, 30.0 - 1e-5, 30.0]
    kept = decode(encode(logits))[0]
    assert kept.argmax() == 7
    assert kept[7] == kept[700] > kept[70]


def test_nothing_is_lost_to_hopeless_tokens() -> None:
    """Deeper than the scale goes: they stay improbable, and the others exact."""
    logits = np.zeros((1, VOCAB), np.float32)
    logits[0, 1:] = -1e6
    kept = decode(encode(logits))[0]
    assert abs(kept[0]) < 1e-20
    assert kept[1] == pytest.approx(-DEEPEST)

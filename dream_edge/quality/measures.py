"""How far one set of predictions is from another, position by position. All in float64 from fp32 logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray

DoubleArray = NDArray[np.float64]

_ROWS_AT_ONCE = 32  # of a vocabulary of 152064: 39 MB an array


@dataclass(frozen=True)
class Differences:
    """For each masked position [masked], in nats."""

    kl: DoubleArray
    """KL(reference ‖ artifact) = Σ p (log p - log q) over the full vocabulary."""
    same_top: BoolArray
    """Whether both find the same token most probable; equal logits go to the lowest id."""
    reference_loss: DoubleArray
    """-log p of the token that was there."""
    artifact_loss: DoubleArray
    """-log q of the token that was there."""


def differences(reference: FloatArray, artifact: FloatArray, targets: IntArray) -> Differences:
    """Compare logits [masked, vocab] of both; `targets` [masked] are the tokens that were masked."""
    parts = [
        _differences(reference[start : start + _ROWS_AT_ONCE], artifact[start : start + _ROWS_AT_ONCE], part)
        for start in range(0, len(targets), _ROWS_AT_ONCE)
        if len(part := targets[start : start + _ROWS_AT_ONCE])
    ]
    return Differences(
        np.concatenate([part.kl for part in parts]),
        np.concatenate([part.same_top for part in parts]),
        np.concatenate([part.reference_loss for part in parts]),
        np.concatenate([part.artifact_loss for part in parts]),
    )


def _differences(reference: FloatArray, artifact: FloatArray, targets: IntArray) -> Differences:
    log_p, log_q = log_softmax(reference), log_softmax(artifact)
    kl = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    rows = np.arange(len(targets))
    return Differences(
        np.maximum(kl, 0.0),  # never below 0 but for rounding
        reference.argmax(axis=1) == artifact.argmax(axis=1),
        -log_p[rows, targets],
        -log_q[rows, targets],
    )


def log_softmax(logits: FloatArray) -> DoubleArray:
    """Logarithms of the probabilities of `logits` [rows, vocab]."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted

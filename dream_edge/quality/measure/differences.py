"""How far one set of predictions is from another, position by position. All in float64."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray

DoubleArray = NDArray[np.float64]


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

    @property
    def gain(self) -> DoubleArray:
        """Δp = q - p of the token that was there: how much more probable the artifact finds it, -1 to 1."""
        return np.exp(-self.artifact_loss) - np.exp(-self.reference_loss)

    def take(self, rows: slice) -> Differences:
        """Some of the positions."""
        return Differences(*(getattr(self, field.name)[rows] for field in fields(self)))


def differences(log_p: FloatArray | DoubleArray, logits: FloatArray, targets: IntArray) -> Differences:
    """Compare the reference's log-probabilities with the artifact's logits, both [masked, vocab].

    `targets` [masked] are the tokens that were masked. Any slice of the rows may be given; `concatenate` puts the
    parts of one sequence together.
    """
    log_q = log_softmax(logits)
    exact = log_p.astype(np.float64, copy=False)
    kl = (np.exp(exact) * (exact - log_q)).sum(axis=1)
    rows = np.arange(len(targets))
    return Differences(
        np.maximum(kl, 0.0),  # never below 0 but for rounding
        log_p.argmax(axis=1) == logits.argmax(axis=1),
        -exact[rows, targets],
        -log_q[rows, targets],
    )


def concatenate(parts: list[Differences]) -> Differences:
    """Put the positions of all `parts` one after the other."""
    names = [field.name for field in fields(Differences)]
    return Differences(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def log_softmax(logits: FloatArray) -> DoubleArray:
    """Logarithms of the probabilities of `logits` [rows, vocab]."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted

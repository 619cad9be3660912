"""One evaluation set for all: the same masks of the same held-out texts, and what each model loses on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dream_edge.quality.measure.differences import Differences, DoubleArray, differences, log_softmax
from dream_edge.quality.texts.masking import MaskedPassage, mask_passages
from dream_edge.quality.texts.read import default_texts, passages
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference.model import Dream
from dream_edge_runtime.arrays import FloatArray, IntArray
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.inference.onnx_network import OnnxNetwork

BINS = 5

Logits = Callable[[IntArray, IntArray], FloatArray]
"""Ids [length] and rows [masked] → logits [masked, vocab] of those rows."""


@dataclass(frozen=True)
class Evaluation:
    passages: tuple[MaskedPassage, ...]
    reference: tuple[DoubleArray, ...]
    """Log-probabilities of the full-precision network at the masks of each passage."""
    shift: int

    @classmethod
    def of(cls, checkpoint: Checkpoint, network: Dream, artifact: Artifact, sequences: int, seed: int) -> Evaluation:
        """`artifact` is any of the checkpoint's: its tokenizer reads the texts."""
        config = checkpoint.config
        pieces = passages(default_texts(checkpoint), artifact.tokenizer(), 512)
        masked = tuple(mask_passages(pieces, config, count=sequences, bins=BINS, seed=seed))
        logits = of_network(network)
        reference = tuple(log_softmax(logits(each.canvas, _rows(each, config.shift))) for each in masked)
        return cls(masked, reference, config.shift)

    def losses(self, logits: Logits) -> list[Differences]:
        """What a model loses, sequence by sequence."""
        return [
            differences(reference, logits(each.canvas, _rows(each, self.shift)), each.targets)
            for each, reference in zip(self.passages, self.reference, strict=True)
        ]


def _rows(masked: MaskedPassage, shift: int) -> IntArray:
    return np.maximum(masked.positions - shift, 0)


def of_network(network: Dream) -> Logits:
    """A network in PyTorch."""

    def logits(ids: IntArray, rows: IntArray) -> FloatArray:
        with torch.inference_mode():
            hidden = network.model(torch.from_numpy(ids)[None])[0, torch.from_numpy(rows)]
            found: FloatArray = network.lm_head(hidden).float().numpy()
        return found

    return logits


def of_artifact(artifact: Artifact, threads: int | None) -> Logits:
    """An artifact as the runtime computes it, activations in 8 bits and all."""
    network = OnnxNetwork(artifact, threads=threads)

    def logits(ids: IntArray, rows: IntArray) -> FloatArray:
        positions, everyone = np.arange(len(ids), dtype=np.int64)[None], np.ones((1, 1, len(ids)), np.bool_)
        return network.forward(ids[None], positions, everyone, rows, 0.0, None).fetch_logits()

    return logits


@dataclass(frozen=True)
class Difference:
    """Mean KL of one model - that of another at the same masks, and its standard error, sequences being the units."""

    mean: float
    error: float


def paired(ours: Sequence[Differences], theirs: Sequence[Differences]) -> Difference:
    """Ours - theirs: below 0 where ours loses less."""
    return mean_of([a.kl - b.kl for a, b in zip(ours, theirs, strict=True)])


def mean_of(sequences: Sequence[NDArray[np.float64]]) -> Difference:
    """Mean over all positions with its standard error by the ratio estimator (Cochran, Sampling Techniques, 9.3)."""
    sums, sizes = np.array([part.sum() for part in sequences]), np.array([len(part) for part in sequences])
    mean, count = float(sums.sum() / sizes.sum()), len(sequences)
    spread = float((np.square(sums - mean * sizes)).sum())
    return Difference(mean, float(np.sqrt(count / (count - 1) * spread) / sizes.sum()) if count > 1 else 0.0)

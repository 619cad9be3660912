"""Measure an artifact against the full-precision network it was made from, on masked texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.config import ModelConfig
from dream_edge_runtime.network import Network
from dream_edge_runtime.session import OnnxNetwork

from .base import Base
from .errors import MismatchedModels
from .evaluation import asked_rows
from .masking import MaskedPassage
from .measures import Differences, differences, joined
from .report import Comparison, figures

_ROWS_AT_ONCE = 32

Progress = Callable[[int, int], None]
"""Called with the number of sequences done, and of all."""


def compare(
    artifact: Artifact,
    base: Base,
    *,
    threads: int | None = None,
    progress: Progress = lambda _done, _all: None,
) -> Comparison:
    """KL divergence, agreement and likelihood of `artifact` against the reference in `base`; see `Measures`.

    All artifacts that are held against one base see the same masks, so that their figures can be set side by side. One
    sequence is in memory at a time. PyTorch is not needed.

    Args:
        threads: for the artifact's passes; None = as many as the processor has cores.
        progress: called after each sequence.

    Raises:
        MismatchedModels: artifact and base differ in vocabulary or geometry.
        CorruptBase, ArtifactError.
    """
    check_same_model(artifact, base.config, base.name)
    network = OnnxNetwork(artifact, threads=threads)
    evaluation = base.evaluation
    measured: list[tuple[int, Differences]] = []
    for index, masked in enumerate(evaluation.passages):
        measured.append((masked.bin, _measure(network, base, index)))
        progress(len(measured), len(evaluation.passages))
    found = figures(measured, evaluation.bins)
    return Comparison(
        overall=found.overall,
        bins=found.bins,
        artifact=artifact.path.name,
        scheme=artifact.manifest.recipe.scheme,
        seed=evaluation.seed,
    )


def _measure(network: Network, base: Base, index: int) -> Differences:
    """Passage `index` of the evaluation set; of the reference, a few rows are in memory at a time."""
    masked, first = base.evaluation.passages[index], int(base.evaluation.starts[index])
    logits = _logits(network, masked, base.config)
    parts = []
    for start in range(0, len(masked.targets), _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, len(masked.targets)))
        log_p = base.log_probs(first + part.start, first + part.stop)
        parts.append(differences(log_p, logits[part], masked.targets[part]))
    return joined(parts)


def _logits(network: Network, masked: MaskedPassage, config: ModelConfig) -> FloatArray:
    positions = np.arange(len(masked.canvas), dtype=np.int64)[None]
    everyone = np.ones((1, len(masked.canvas)), np.bool_)
    rows = asked_rows(masked, config)
    return network.forward(masked.canvas[None], positions, everyone, rows, 0.0, None).fetch_logits()


def check_same_model(artifact: Artifact, config: ModelConfig, name: Path | str) -> None:
    """Raises MismatchedModels unless `artifact` has the geometry of the checkpoint called `name`."""
    ours, theirs = artifact.manifest.config.to_dict(), config.to_dict()
    differing = [f"{key} {ours[key]} / {theirs[key]}" for key in ours if ours[key] != theirs[key]]
    if differing:
        raise MismatchedModels(artifact.path, name, differing)

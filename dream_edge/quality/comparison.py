"""Measure an artifact against the full-precision network it was made from, on masked texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.inference.network import Network, attended_keys
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.progress import Meter, OnProgress, silent

from .errors import MismatchedModels
from .measure.differences import Differences
from .measure.figures import Bin, Figures, Measures, figures
from .reference.base import Base
from .reference.noise import noise_floor
from .tasks import TaskComparison
from .texts.masking import MaskedPassage
from .trajectory.agreement import TrajectoryFigures
from .trajectory.follow import follow, trajectories
from .trajectory.path import Trajectory
from .trajectory.record import pass_count


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An artifact against its reference. A bin without sequences is left out."""

    overall: Measures
    bins: tuple[Bin, ...]
    artifact: str
    scheme: str
    seed: int
    causal_block: int | None = None
    """Of a block-causal network: each text was masked in one block of so many tokens, and ended with it."""
    noise: Figures | None = None
    """The same figures of the reference itself with its activations rounded to bf16: what cannot be told apart."""
    trajectories: tuple[TrajectoryFigures, ...] = ()
    """Along the reference's own way from masks to text, one for each algorithm and number of steps."""
    tasks: TaskComparison | None = None
    """Scores in the tasks that the model has learnt."""

    @property
    def basis(self) -> str:
        """What the figures rest on."""
        block = f"masks in one block of {self.causal_block} that ends each (block-causal attention)"
        attention = "masks anywhere (full attention)" if self.causal_block is None else block
        texts = f"{self.overall.positions} masked positions of {self.overall.sequences} texts"
        return f"{texts}, {attention}, seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "artifact": self.artifact,
            "scheme": self.scheme,
            "seed": self.seed,
            "causal_block": self.causal_block,
            **Figures(self.overall, self.bins).to_dict(),
            "noise_floor": None if self.noise is None else self.noise.to_dict(),
            "trajectories": [each.to_dict() for each in self.trajectories],
            "tasks": None if self.tasks is None else self.tasks.to_dict(),
        }


def compare_artifact(
    artifact: Artifact,
    base: Base,
    *,
    recorded: Sequence[Trajectory] | None = None,
    threads: int | None = None,
    progress: OnProgress = silent,
) -> Comparison:
    """KL divergence, agreement and likelihood of `artifact` against the reference in `base`; see `Measures`.

    All artifacts that are held against one base see the same masks, so that their figures can be set side by side. One
    sequence is in memory at a time. PyTorch is not needed.

    Args:
        recorded: trajectories of the reference to follow; None = those kept in the base, if any.
        threads: for the artifact's passes; None = as many as the processor has cores.
        progress: told of passes; a trajectory that may end sooner counts as if it did not.

    Raises: MismatchedModels, CorruptBase, ArtifactError.
    """
    check_same_model(artifact, base.config, base.name)
    followed = trajectories(base) if recorded is None else recorded
    noise = noise_floor(base)
    network, evaluation = OnnxNetwork(artifact, threads=threads), base.evaluation
    along = sum(2 * pass_count(each.config, each.begun, base.config) for each in followed)
    passes = Meter(progress, f"comparing {artifact.path.name}", len(evaluation.passages) + along, "passes")
    measured: list[tuple[int, Differences]] = []
    for first, masked in zip(evaluation.starts.tolist()[:-1], evaluation.passages, strict=True):
        measured.append((masked.bin, base.differences(first, _logits(network, masked))))
        passes.advance()
    found = figures(measured, evaluation.bins)
    return Comparison(
        overall=found.overall,
        bins=found.bins,
        artifact=artifact.path.name,
        scheme=artifact.manifest.recipe.scheme,
        seed=evaluation.seed,
        causal_block=base.config.causal_block,
        noise=noise,
        trajectories=follow(network, followed, artifact.tokenizer(), after_pass=passes.advance),
    )


def _logits(network: Network, masked: MaskedPassage) -> FloatArray:
    positions = np.arange(len(masked.canvas), dtype=np.int64)[None]
    mask = attended_keys(network.config, positions, positions, np.ones(positions.shape, np.bool_))
    rows = masked.asked_rows(network.config)
    return network.forward(masked.canvas[None], positions, mask, rows, 0.0, None).fetch_logits()


def check_same_model(artifact: Artifact, config: ModelConfig, name: Path | str) -> None:
    """Raises MismatchedModels unless `artifact` has the geometry of the checkpoint called `name`."""
    ours, theirs = artifact.manifest.config.to_dict(), config.to_dict()
    del ours["tie_word_embeddings"]  # earlier releases stored a tied head as one of its own
    differing = [f"{key} {ours[key]} / {theirs[key]}" for key in ours if ours[key] != theirs[key]]
    if differing:
        raise MismatchedModels(artifact.path, name, differing)

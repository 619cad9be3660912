"""What cannot be told apart: the reference itself, its activations rounded to bf16, against the reference in fp32."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dream_edge_runtime.progress import Meter, OnProgress, silent

from ..errors import CorruptBase
from ..measure.differences import concatenate
from ..measure.figures import Figures, figures
from .base import Base
from .build import stage_reference

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint

NOISE = "noise_floor"
"""What it is called in a base."""


def with_noise_floor(base: Base, checkpoint: Checkpoint, *, progress: OnProgress = silent) -> Base:
    """`base` with the figures of its own `checkpoint` in bf16 kept in it; as it is where they are there already.

    It takes as long as making the base, and as much memory; an interrupted call starts over.

    Raises: MismatchedBase, CorruptBase, CheckpointError, NotWritable.
    """
    base.check(checkpoint)
    if noise_floor(base) is not None:
        return base
    from dream_edge_export.reference.bf16 import round_to_bf16

    evaluation = base.evaluation
    with tempfile.TemporaryDirectory(prefix="dream-edge-") as directory:
        reference = stage_reference(checkpoint, evaluation, Path(directory), rounding=round_to_bf16)
        layers = Meter(progress, "measuring the noise floor", reference.work, "layers")
        for stage in range(reference.stages):
            reference.run(stage, layers.reach)
            reference.forget(stage)
        parts, done = [], 0
        for logits in reference.logits():
            parts.append(base.differences(done, logits))
            done += len(logits)
            layers.reach(reference.work_before(reference.stages, done))
    found, starts = concatenate(parts), evaluation.starts.tolist()
    spans = zip(evaluation.passages, starts, starts[1:], strict=False)
    sequences = [(masked.bin, found.take(slice(first, last))) for masked, first, last in spans]
    return base.with_extra(NOISE, figures(sequences, evaluation.bins).to_dict())


def noise_floor(base: Base) -> Figures | None:
    """What is kept in `base`; None if nothing is. Raises CorruptBase where it is something else."""
    document = base.extra(NOISE)
    try:
        return None if document is None else Figures.from_dict(document)
    except (KeyError, TypeError, ValueError, IndexError):
        raise CorruptBase(base.path, "the stored noise floor is malformed") from None

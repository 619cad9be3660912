"""What cannot be told apart: the reference itself, its activations rounded to bf16, against the reference in fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dream_edge_runtime.errors import MissingExtra
from dream_edge_runtime.progress import Meter, OnProgress, silent

from ..errors import CorruptBase
from ..measure.differences import ROWS_AT_ONCE, Differences, concatenate, differences
from ..measure.figures import Figures, figures
from ..texts.evaluation import asked_rows
from .base import Base

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.reference.staged import StagedReference

NOISE = "noise_floor"
"""What it is called in a base."""


def with_noise_floor(base: Base, checkpoint: Checkpoint, *, progress: OnProgress = silent) -> Base:
    """`base` with the figures of its own `checkpoint` in bf16 kept in it; as it is where they are there already.

    It takes as long as making the base, and as much memory; an interrupted call starts over.

    Raises:
        MismatchedBase: the base is of another checkpoint.
        NotWritable: the figures cannot be kept.
        CheckpointError: a tensor is damaged, or a file changed meanwhile.
        CorruptBase: the base is damaged.
        MissingExtra: PyTorch is not installed.
    """
    base.check(checkpoint)
    if noise_floor(base) is not None:
        return base
    try:
        from dream_edge_export.reference.bf16 import round_to_bf16
        from dream_edge_export.reference.staged import StagedReference
    except ImportError:
        raise MissingExtra("Measuring the noise floor", "export") from None
    evaluation = base.evaluation
    with tempfile.TemporaryDirectory(prefix="dream-edge-") as directory:
        reference = StagedReference(
            checkpoint,
            [masked.canvas for masked in evaluation.passages],
            [asked_rows(masked, base.config) for masked in evaluation.passages],
            Path(directory),
            rounding=round_to_bf16,
        )
        layers = Meter(progress, "measuring the noise floor", reference.work, "layers")
        found = concatenate([*_differences(base, reference, layers)])
    spans = zip(evaluation.starts[:-1].tolist(), evaluation.starts[1:].tolist(), strict=True)
    sequences = [
        (masked.bin, found.take(slice(first, last)))
        for masked, (first, last) in zip(evaluation.passages, spans, strict=True)
    ]
    return base.with_extra(NOISE, figures(sequences, evaluation.bins).to_dict())


def noise_floor(base: Base) -> Figures | None:
    """What is kept in `base`; None if nothing is.

    Raises:
        CorruptBase: it is something else.
    """
    document = base.extra(NOISE)
    try:
        return None if document is None else Figures.from_dict(document)
    except (KeyError, TypeError, ValueError, IndexError):
        raise CorruptBase(base.path, "the stored noise floor is malformed") from None


def _differences(base: Base, reference: StagedReference, layers: Meter) -> Iterator[Differences]:
    for stage in range(reference.stages):
        reference.run(stage, layers.reach)
        reference.forget(stage)
    targets = np.concatenate([masked.targets for masked in base.evaluation.passages])
    first = 0
    for logits in reference.logits():
        for start in range(0, len(logits), ROWS_AT_ONCE):
            some = logits[start : start + ROWS_AT_ONCE]
            last = first + len(some)
            yield differences(base.log_probs(first, last), some, targets[first:last])
            layers.reach(reference.work_before(reference.stages, last))
            first = last

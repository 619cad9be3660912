"""Partly masked sequences for `export(…, calibration=…)`: never those that a comparison masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...models import is_tiny
from .default import calibration_texts, tiny_training
from .masking import mask_texts
from .read import Text

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.quantize.calibrate import CalibrationSet

SEQUENCES = 256
LONGEST = 512
BUILT_IN, TINY_TASKS = "built-in texts", "training cases of the tiny model"


def calibration_set(
    checkpoint: Checkpoint,
    *,
    data: Sequence[Text] | None = None,
    name: str = "given texts",
    sequences: int = SEQUENCES,
    longest: int = LONGEST,
    seed: int = 0,
) -> CalibrationSet:
    """Mask `sequences` sequences, each at a mask ratio of its own, stratified over (0, 1].

    Of an answer to a prompt the prompt stays visible.

    Args:
        data: texts to mask; None = training cases of its tasks for the bundled tiny model, built-in ones for others.
        name: of the data, kept in the manifest.
        longest: tokens of a sequence; longer texts are cut.
        seed: for the masks and the order of the texts.

    Raises: what `mask_texts` does.
    """
    if data is None:
        name, data = (TINY_TASKS, tiny_training()) if is_tiny(checkpoint) else (BUILT_IN, calibration_texts())
    _, masked = mask_texts(checkpoint, data, purpose="Calibrating", sequences=sequences, longest=longest, seed=seed)

    from dream_edge_export.quantize.calibrate import CalibrationSet

    return CalibrationSet(name, tuple(passage.canvas for passage in masked))

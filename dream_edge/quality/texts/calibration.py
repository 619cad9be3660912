"""Partly masked sequences for `export(…, calibration=…)`: never those that a comparison masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dream_edge_runtime.errors import InvalidOption, MissingExtra
from dream_edge_runtime.text.tokenizer import Tokenizer

from ...models import is_tiny
from ..errors import NoData
from .default import calibration_texts
from .masking import mask_passages
from .read import Text, passages
from .tiny import tiny_training

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
    """`sequences` masked sequences, each at a mask ratio of its own, stratified over (0, 1]; of an answer to a prompt
    the prompt stays visible.

    Args:
        data: texts to mask; None = training cases of its tasks for the bundled tiny model, built-in ones for others.
        name: of the data, kept in the manifest.
        longest: tokens of a sequence; longer texts are cut.
        seed: of the masks and of the order of the texts.

    Raises: NoData, MissingExtra, InvalidOption, PromptError, CheckpointError, InvalidTokenizer.
    """
    for option, value, least in (("sequences", sequences, 1), ("longest", longest, 2), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidOption(option, value, f"must be an integer of at least {least}")
    try:
        from dream_edge_export.checkpoint.tokenizer import convert_tokenizer
        from dream_edge_export.quantize.calibrate import CalibrationSet
    except ImportError:
        raise MissingExtra("Calibrating", "export") from None
    if data is None:
        name, data = (TINY_TASKS, tiny_training()) if is_tiny(checkpoint) else (BUILT_IN, calibration_texts())
    if isinstance(data, str) or not data:
        raise NoData("data", "it is one string, not a list of texts" if data else "there is no text in it")
    config = checkpoint.config
    tokenizer = Tokenizer.from_bytes(convert_tokenizer(checkpoint.path, config))
    pieces = passages(data, tokenizer, min(longest, config.context))
    masked = mask_passages(pieces, config.mask_token_id, count=sequences, bins=1, seed=seed)
    return CalibrationSet(name, tuple(passage.canvas for passage in masked))

"""On what networks are compared: masked passages, drawn once, the same for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.format.model_config import ModelConfig

from .default import default_texts
from .masking import MaskedPassage, mask_texts
from .read import Text

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint

SEQUENCES = 128
BINS = 5
LONGEST = 512


@dataclass(frozen=True)
class Evaluation:
    """Masked passages, and how they were drawn.

    Attributes:
        bins: into how many equal intervals of mask ratios the figures are split.
        longest: tokens of a passage; longer texts were cut.
        data: SHA-256, in hex, of the texts' ids and of what of them may be masked.
    """

    passages: tuple[MaskedPassage, ...]
    bins: int
    longest: int
    seed: int
    data: str

    @cached_property
    def starts(self) -> IntArray:
        """The first masked position of each passage among those of all, and their number at the end."""
        return np.cumsum([0, *(len(masked.positions) for masked in self.passages)])

    @property
    def rows(self) -> int:
        """Masked positions of all passages."""
        return int(self.starts[-1])

    @property
    def tokens(self) -> int:
        """Of all passages together."""
        return sum(len(masked.canvas) for masked in self.passages)


def draw_evaluation(
    checkpoint: Checkpoint,
    *,
    data: Sequence[Text] | None = None,
    sequences: int = SEQUENCES,
    bins: int = BINS,
    longest: int = LONGEST,
    seed: int = 0,
) -> Evaluation:
    """Mask `sequences` passages, each at a mask ratio of its own, stratified over (0, 1].

    Args:
        data: texts to mask; None = held-out cases of its tasks for the bundled tiny model, built-in ones for others.
        bins: intervals of the mask ratio, each with as many passages.
        longest: tokens of a passage; longer texts are cut (at the model's context at the latest).
        seed: for the masks and the order of the texts.

    Raises: what `mask_texts` does.
    """
    texts = default_texts(checkpoint) if data is None else data
    pieces, drawn = mask_texts(
        checkpoint, texts, purpose="Comparing", sequences=sequences, longest=longest, seed=seed, bins=bins
    )
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(np.array([len(piece.ids), piece.start, *piece.ids], "<i8").tobytes())
    return Evaluation(drawn, bins, longest, seed, digest.hexdigest())


def asked_rows(masked: MaskedPassage, config: ModelConfig) -> IntArray:
    """The rows of the network that predict the masked positions [masked]; the first position has only its own."""
    return np.maximum(masked.positions - config.shift, 0)

"""On what networks are compared: masked passages, drawn once, the same for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.text.tokenizer import Tokenizer

from ..errors import NoData
from .masking import MaskedPassage, mask_passages
from .read import Text, passages

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
    texts: Sequence[Text],
    tokenizer: Tokenizer,
    config: ModelConfig,
    *,
    sequences: int = SEQUENCES,
    bins: int = BINS,
    longest: int = LONGEST,
    seed: int = 0,
) -> Evaluation:
    """Mask `sequences` passages of `texts`, each at a mask ratio of its own, stratified over (0, 1].

    Args:
        longest: tokens of a sequence; longer texts are cut (at the model's context at the latest).
        seed: of masks and of the order of the texts.

    Raises:
        NoData: no text has anything to mask.
        InvalidOption, PromptError.
    """
    integers = (("sequences", sequences, 1), ("bins", bins, 1), ("longest", longest, 2), ("seed", seed, 0))
    for name, value, least in integers:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidOption(name, value, f"must be an integer of at least {least}")
    if isinstance(texts, str) or not texts:
        raise NoData("data", "it is one string, not a list of texts" if texts else "there is no text in it")
    pieces = passages(texts, tokenizer, min(longest, config.context))
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(np.array([len(piece.ids), piece.start, *piece.ids], "<i8").tobytes())
    drawn = mask_passages(pieces, config.mask_token_id, count=sequences, bins=bins, seed=seed)
    return Evaluation(tuple(drawn), bins, longest, seed, digest.hexdigest())


def asked_rows(masked: MaskedPassage, config: ModelConfig) -> IntArray:
    """The rows of the network that predict the masked positions [masked]; the first position has only its own."""
    return np.maximum(masked.positions - config.shift, 0)

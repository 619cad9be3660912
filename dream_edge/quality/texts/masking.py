"""Which positions a comparison masks: every mask ratio equally often, and the same masks for every artifact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.errors import InvalidOption, MissingExtra
from dream_edge_runtime.text.tokenizer import Tokenizer

from ..errors import NoData
from .read import Passage, Text, passages

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint


@dataclass(frozen=True)
class MaskedPassage:
    """A passage with some of its positions masked.

    Attributes:
        canvas: ids [length] with masks.
        positions: where the masks are [masked], ascending.
        targets: what was there [masked].
        bin: which interval of mask ratios it belongs to, counted from 0.
    """

    canvas: IntArray
    positions: IntArray
    targets: IntArray
    bin: int


def mask_texts(
    checkpoint: Checkpoint,
    texts: Sequence[Text],
    *,
    purpose: str,
    sequences: int,
    longest: int,
    seed: int,
    bins: int = 1,
) -> tuple[list[Passage], tuple[MaskedPassage, ...]]:
    """Cut `texts` into passages in the ids of `checkpoint`, and mask `sequences` of them; see `mask_passages`.

    Args:
        purpose: what the masks are for, as "Calibrating".
        longest: tokens of a passage; longer texts are cut (at the model's context at the latest).
        seed: for the masks and the order of the texts.

    Raises:
        NoData: no text has anything to mask.
        InvalidOption: a number does not fit.
        PromptError: a text cannot be encoded.
        CheckpointError, InvalidTokenizer: the checkpoint's files cannot be used.
        MissingExtra: the libraries that read checkpoints are not installed.
    """
    integers = (("sequences", sequences, 1), ("bins", bins, 1), ("longest", longest, 2), ("seed", seed, 0))
    for name, value, least in integers:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidOption(name, value, f"must be an integer of at least {least}")
    if isinstance(texts, str) or not texts:
        raise NoData("data", "it is one string, not a list of texts" if texts else "there is no text in it")
    try:
        from dream_edge_export.checkpoint.tokenizer import convert_tokenizer
    except ImportError:
        raise MissingExtra(purpose, "export") from None
    config = checkpoint.config
    tokenizer = Tokenizer.from_bytes(convert_tokenizer(checkpoint.path, config), source=checkpoint.path)
    pieces = passages(texts, tokenizer, min(longest, config.context))
    return pieces, tuple(mask_passages(pieces, config.mask_token_id, count=sequences, bins=bins, seed=seed))


def mask_passages(
    passages: Sequence[Passage], mask_id: int, *, count: int, bins: int, seed: int
) -> Iterator[MaskedPassage]:
    """Draw `count` masked passages, the passages in turn in a random order.

    Ratios are stratified: draw i takes t from the π(i)-th of `count` equal parts of (0, 1], and l = ⌈t·n⌉ of the n
    maskable positions, drawn without replacement. So l is uniform on 1 … n, as in equation 6 of LLaDA (Nie et al.,
    arXiv 2502.09992). The mask ratio of a draw is l / n; bin b holds ratios in (b / bins, (b + 1) / bins].
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(passages))
    ratios = 1 - (rng.permutation(count) + rng.random(count)) / count
    for index, ratio in enumerate(ratios):
        passage = passages[order[index % len(order)]]
        masked = min(passage.maskable, int(np.ceil(ratio * passage.maskable)))
        positions = passage.start + np.sort(rng.permutation(passage.maskable)[:masked])
        canvas = passage.ids.copy()
        canvas[positions] = mask_id
        yield MaskedPassage(canvas, positions, passage.ids[positions], (masked * bins - 1) // passage.maskable)

"""Which positions are masked: every mask ratio equally often, and the same masks for every artifact.

Drawn for comparisons, for calibrations, and for choosing a recipe; the last two never mask what a comparison does.
A network is shown what its decoder shows it: with block-causal attention the masks of one block after clean ones, and
nothing after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.generation.option import Integer
from dream_edge_runtime.generation.schedule import number_blocks

from ...models import is_tiny
from ..errors import NoData
from .read import Passage, Text, default_texts, passages, training_texts

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.quantize.calibrate import CalibrationSet

BINS = 5
CALIBRATED = 256
"""Sequences of a calibration."""


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

    def asked_rows(self, config: ModelConfig) -> IntArray:
        """The rows of the network that predict the masked positions [masked]; the first position has only its own."""
        return np.maximum(self.positions - config.shift, 0)


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

    @cached_property
    def targets(self) -> IntArray:
        """What was at the masked positions of all passages [rows]."""
        return np.concatenate([masked.targets for masked in self.passages])

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
    sequences: int = 128,
    bins: int = BINS,
    longest: int = 512,
    seed: int = 0,
) -> Evaluation:
    """Mask `sequences` passages of `data` to compare networks on, with as many in each of `bins` equal intervals.

    `data` of None are held-out cases of its tasks for the bundled tiny model, built-in texts for others. The other
    options and what is raised: see `mask_texts`.
    """
    texts = default_texts(checkpoint) if data is None else data
    pieces, drawn = mask_texts(checkpoint, texts, sequences=sequences, longest=longest, seed=seed, bins=bins)
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(np.array([len(piece.ids), piece.start, *piece.ids], "<i8").tobytes())
    return Evaluation(drawn, bins, longest, seed, digest.hexdigest())


def calibration_set(
    checkpoint: Checkpoint,
    *,
    data: Sequence[Text] | None = None,
    name: str = "given texts",
    sequences: int = CALIBRATED,
    longest: int = 512,
    seed: int = 0,
) -> CalibrationSet:
    """Mask `sequences` passages of `data` for `export(…, calibration=…)`; of an answer the prompt stays visible.

    `data` of None are training cases of its tasks for the bundled tiny model, built-in texts for others; the manifest
    keeps their `name`. The other options and what is raised: see `mask_texts`.
    """
    if data is None:
        name = "training cases of the tiny model" if is_tiny(checkpoint) else "built-in texts"
        data = training_texts(checkpoint)
    _, masked = mask_texts(checkpoint, data, sequences=sequences, longest=longest, seed=seed)

    from dream_edge_export.quantize.calibrate import CalibrationSet

    return CalibrationSet(name, tuple(passage.canvas for passage in masked))


def mask_texts(
    checkpoint: Checkpoint,
    texts: Sequence[Text],
    *,
    sequences: int,
    longest: int,
    seed: int,
    bins: int = 1,
) -> tuple[list[Passage], tuple[MaskedPassage, ...]]:
    """Cut `texts` into passages in the ids of `checkpoint`, and mask `sequences` of them; see `mask_passages`.

    Args:
        longest: tokens of a passage; longer texts are cut (at the model's context at the latest).
        seed: for the masks and the order of the texts.

    Raises: NoData where no text has anything to mask, InvalidOption, PromptError where a text cannot be encoded,
        CheckpointError, InvalidTokenizer.
    """
    for name, value, least in (
        ("sequences", sequences, 1),
        ("bins", bins, 1),
        ("longest", longest, 2),
        ("seed", seed, 0),
    ):
        Integer(least).convert(name, value)
    if isinstance(texts, str) or not texts:
        raise NoData("data", "it is one string, not a list of texts" if texts else "there is no text in it")
    from dream_edge_export.checkpoint.tokenizer import load_tokenizer

    config = checkpoint.config
    tokenizer = load_tokenizer(checkpoint.path, config)
    pieces = passages(texts, tokenizer, min(longest, config.context))
    return pieces, tuple(mask_passages(pieces, config, count=sequences, bins=bins, seed=seed))


def mask_passages(
    passages: Sequence[Passage], config: ModelConfig, *, count: int, bins: int, seed: int
) -> Iterator[MaskedPassage]:
    """Draw `count` masked passages, the passages in turn in a random order, cut as `cut_to_block` says.

    Ratios are stratified: draw i takes t from the π(i)-th of `count` equal parts of (0, 1], and l = ⌈t·n⌉ of the n
    maskable positions, drawn without replacement. So l is uniform on 1 … n, as in equation 6 of LLaDA (Nie et al.,
    arXiv 2502.09992). The mask ratio of a draw is l / n; bin b holds ratios in (b / bins, (b + 1) / bins].
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(passages))
    ratios = 1 - (rng.permutation(count) + rng.random(count)) / count
    for index, ratio in enumerate(ratios):
        passage = cut_to_block(passages[order[index % len(order)]], config, rng)
        masked = min(passage.maskable, int(np.ceil(ratio * passage.maskable)))
        positions = passage.start + np.sort(rng.permutation(passage.maskable)[:masked])
        canvas = passage.ids.copy()
        canvas[positions] = config.mask_token_id
        yield MaskedPassage(canvas, positions, passage.ids[positions], (masked * bins - 1) // passage.maskable)


def cut_to_block(passage: Passage, config: ModelConfig, rng: np.random.Generator) -> Passage:
    """`passage` as a decoder meets it in one block of a block-causal network: only that may be masked, nothing follows.

    The block (see `number_blocks`) is that of a maskable position, drawn uniformly. A block with m of the n maskable
    positions is drawn with probability m / n, so that the mean over draws of log p a token estimates the bound of the
    whole text: the sum over its blocks of the bound of each, given those before it (Arriola et al., "Block Diffusion",
    arXiv 2503.09573, section 3). With full attention the passage stays whole.
    """
    if config.causal_block is None:
        return passage
    blocks = number_blocks(np.arange(len(passage.ids)), config.causal_block, config.shift, config.causal_block)
    (inside,) = np.nonzero(blocks == blocks[rng.integers(passage.start, len(blocks))])
    return Passage(passage.ids[: inside[-1] + 1], max(passage.start, int(inside[0])))

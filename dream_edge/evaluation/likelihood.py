"""How likely an answer is to a masked-diffusion model: a bound on log p(answer | prompt), and whether it is its own.

The bound is the model's training objective (LLaDA, Nie et al., arXiv 2502.09992, equation 6; the same weights in MDLM,
arXiv 2406.07524, and in Dream's own evaluation). Of the n tokens of an answer, l are masked, l uniform on 1 … n, and
which ones uniform among the subsets of that size; the prompt is visible:

    log p(answer | prompt)  ≥  E_l E_subset [ (n / l) · Σ over the masked tokens of log p(token | all that is visible) ]

A block-causal model is trained on the sum of this over the blocks of a text, each after those before it and before
nothing (Arriola et al., "Block Diffusion", arXiv 2503.09573, section 3), which bounds the whole by the chain rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.arrays import BoolArray, IntArray
from dream_edge_runtime.errors import NonFiniteLogits
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.generation.schedule import number_blocks
from dream_edge_runtime.inference.network import Network, Rows, attended_keys

DoubleArray = NDArray[np.float64]


@dataclass(frozen=True)
class Masks:
    """Which tokens of an answer are masked [masks, n], and what each mask counts for [masks]."""

    masked: BoolArray
    weights: DoubleArray


def bound_likelihood(
    network: Network,
    prompt: Sequence[int],
    answer: Sequence[int],
    samples: int,
    rng: np.random.Generator,
    *,
    batch_size: int = 1,
    offset: int = 0,
) -> float:
    """The bound on log p(answer | prompt) in nats, from about `samples` masks, which blocks share by their tokens.

    `batch_size` masks go through a pass. Blocks begin `offset` positions before the prompt.
    """
    bound = 0.0
    for before, block in split_blocks(prompt, answer, network.config, offset):
        masks = choose_masks(len(block), max(1, samples * len(block) // len(answer)), rng)
        bound += log_likelihood(network, before, block, masks, batch_size=batch_size, offset=offset)
    return bound


def split_blocks(
    prompt: Sequence[int], answer: Sequence[int], config: ModelConfig, offset: int = 0
) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """What is filled together of `answer`, each with all that is before it: blocks, or all of it with full attention.

    Blocks begin `offset` positions before the prompt, and are divided as the decoder divides them: see `number_blocks`.
    """
    block = config.causal_block
    if block is None or not answer:
        yield prompt, answer
        return
    places = np.arange(len(prompt), len(prompt) + len(answer)) + offset
    begins = np.flatnonzero(np.diff(number_blocks(places, block, config.shift, block), prepend=-1)).tolist()
    for begin, end in zip(begins, [*begins[1:], len(answer)], strict=True):
        yield [*prompt, *answer[:begin]], answer[begin:end]


def choose_masks(length: int, samples: int, rng: np.random.Generator) -> Masks:
    """All masks of an answer of `length` tokens if `samples` passes suffice for them, else `samples` drawn ones."""
    return enumerate_masks(length) if length < 63 and 2**length - 1 <= samples else draw_masks(length, samples, rng)


def enumerate_masks(length: int) -> Masks:
    """Each of the 2^length - 1 masks, with which the bound is exact."""
    subsets = [subset for size in range(1, length + 1) for subset in combinations(range(length), size)]
    masked = np.zeros((len(subsets), length), np.bool_)
    for row, subset in enumerate(subsets):
        masked[row, list(subset)] = True
    return Masks(masked, np.array([1 / (len(subset) * comb(length, len(subset))) for subset in subsets]))


def draw_masks(length: int, samples: int, rng: np.random.Generator) -> Masks:
    """Draw masks whose sizes are stratified: one from each of `samples` equal parts of the sizes 1 … length."""
    ratios = (np.arange(samples) + rng.random(samples)) / samples
    sizes = np.minimum(length, np.floor(ratios * length).astype(np.int64) + 1)
    masked = np.zeros((samples, length), np.bool_)
    for row, size in enumerate(sizes):
        masked[row, rng.permutation(length)[:size]] = True
    return Masks(masked, length / sizes / samples)


def log_likelihood(
    network: Network,
    prompt: Sequence[int],
    answer: Sequence[int],
    masks: Masks,
    *,
    batch_size: int = 1,
    offset: int = 0,
) -> float:
    """The bound on log p(answer | prompt) in nats that `masks` give, of which `batch_size` go through a pass.

    `answer` is filled together, as one block is; blocks begin `offset` positions before the prompt.
    """
    tokens = np.array([*prompt, *answer], np.int64)
    targets = tokens[len(prompt) :]
    bound = 0.0
    for start in range(0, len(masks.weights), batch_size):
        masked, weights = masks.masked[start : start + batch_size], masks.weights[start : start + batch_size]
        canvas = np.tile(tokens, (len(masked), 1))
        canvas[:, len(prompt) :][masked] = network.config.mask_token_id
        sequence, place = masked.nonzero()
        rows = predict(network, canvas, sequence, len(prompt) + place, offset)
        logits = rows.fetch_logits()[np.arange(len(place)), targets[place]].astype(np.float64)
        bound += float((weights[sequence] * (logits - rows.log_normalizer)).sum())
    return bound


def is_first_choice(network: Network, prompt: Sequence[int], answer: Sequence[int], offset: int = 0) -> bool:
    """Whether the model writes `answer` by itself, where its tokens are masked and no others are; block by block.

    The most confident token is revealed at each step, as LLaDA's evaluation does: confidence is the probability of
    the most probable token; equal ones go from left to right. The first step that reveals another token decides.
    """
    pieces = split_blocks(prompt, answer, network.config, offset)
    return all(_is_filled_so(network, before, block, offset) for before, block in pieces)


def _is_filled_so(network: Network, prompt: Sequence[int], answer: Sequence[int], offset: int) -> bool:
    canvas = np.array([[*prompt, *[network.config.mask_token_id] * len(answer)]], np.int64)
    masked = np.arange(len(prompt), canvas.shape[1])
    while len(masked):
        rows = predict(network, canvas, np.zeros_like(masked), masked, offset)
        best = int(rows.top_probs[:, 0].argmax())
        token, position = int(rows.top_ids[best, 0]), int(masked[best])
        if token != answer[position - len(prompt)]:
            return False
        canvas[0, position] = token
        masked = np.delete(masked, best)
    return True


def predict(network: Network, canvas: IntArray, sequence: IntArray, position: IntArray, offset: int = 0) -> Rows:
    """What the network predicts for the tokens at `position` [rows] of `sequence` [rows] of `canvas` [batch, length].

    The first block of a block-causal network begins `offset` positions before the canvas.

    Raises:
        NonFiniteLogits: weights that were not verified, or an overflow.
    """
    batch, length = canvas.shape
    positions = np.tile(np.arange(length, dtype=np.int64), (batch, 1))
    wanted = sequence * length + _row_of(position, network.config)
    places = positions + offset
    mask = attended_keys(network.config, places, places, np.ones(positions.shape, np.bool_))
    rows = network.forward(canvas, positions, mask, wanted, 0.0, None)
    finite = np.isfinite(rows.log_normalizer)
    if not finite.all():
        raise NonFiniteLogits(int(position[finite.argmin()]))
    return rows


def _row_of(position: IntArray, config: ModelConfig) -> IntArray:
    """Which row of the network predicts each position: the one `shift` before it, but its own for the first."""
    rows: IntArray = np.maximum(position - config.shift, 0)
    return rows


def split_windows(text: Sequence[int], prefix: int, context: int) -> Iterator[tuple[list[int], list[int]]]:
    """Pieces of a long text as pairs of prompt and answer: every token is in one answer, and no pair exceeds `context`.

    An answer has at most half the context. Its prompt is the text before it, as much as fits; `prefix` comes before the
    beginning of the text. By the chain rule the sum of their bounds is one of the whole text.
    """
    step = max(1, context // 2)
    whole = [prefix, *text]
    for start in range(1, len(whole), step):
        answer = whole[start : start + step]
        yield whole[max(0, start + len(answer) - context) : start], answer

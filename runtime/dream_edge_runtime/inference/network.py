"""What the unmasking loop needs of a network: one forward pass, reduced to the rows it asks about."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..format.model_config import ModelConfig
from ..graph.signature import TOP_K

_AT_ONCE = 1 << 16  # logits that are reduced together: their double-precision arrays fit a processor's cache
REDUCED = ("top_logits", "top_ids", "top_probs", "log_normalizer", "neg_entropy")
"""The outputs of a pass that sampling needs."""


class KeyValues(Protocol):
    """Rotated keys and values of some positions, in every layer, wherever the network keeps them. Immutable."""

    @property
    def count(self) -> int:
        """How many positions."""
        ...

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        ...

    def cut(self, start: int, stop: int) -> KeyValues:
        """Those of the positions from `start` up to `stop`: a copy, unless that is all."""
        ...

    def append(self, *others: KeyValues) -> KeyValues:
        """These, and `others` of the same network after them: a copy, unless there are none."""
        ...

    def stack(self, sequences: Sequence[KeyValues | None]) -> KeyValues:
        """Those of `sequences` of the same network (None: without any), each of one sequence, as those of a batch: a
        copy, in which zeros are appended to all but the longest."""
        ...

    def split(self, counts: Sequence[int]) -> Sequence[KeyValues]:
        """The first so many of each sequence of the batch: copies."""
        ...


@dataclass(frozen=True)
class Rows:
    """What a pass says about the rows it was asked for, in the order asked.

    The reduced outputs are best first; equal logits are ordered by id. `fetch_logits` copies the full logits
    fp32 [rows, vocab], unscaled, from the device, and only when it is called: most steps never need them.
    """

    top_logits: FloatArray
    """[rows, k] the k best logits, divided by the temperature."""
    top_ids: IntArray
    """[rows, k] their token ids."""
    top_probs: FloatArray
    """[rows, k] their probabilities: softmax over the *full* vocabulary, after temperature."""
    log_normalizer: FloatArray
    """[rows] log of the sum of exp(logit / temperature) over the full vocabulary."""
    neg_entropy: FloatArray
    """[rows] sum of p · log(p + 1e-10) over the full vocabulary, after temperature."""
    fetch_logits: Callable[[], FloatArray]
    key_values: KeyValues | None = None
    """Of the whole pass, whichever rows these are; None unless they were asked for."""
    fresh: bool = True
    """Whether the pass computed all it attended to; false where it took keys and values from an earlier pass."""

    @property
    def count(self) -> int:
        return len(self.top_ids)

    def take(self, rows: slice | IntArray) -> Rows:
        """Some of these rows, by slice or indices."""
        reduced = {name: getattr(self, name)[rows] for name in REDUCED}
        return replace(self, **reduced, fetch_logits=lambda: self.fetch_logits()[rows])

    @classmethod
    def from_logits(cls, logits: FloatArray, temperature: float, k: int = TOP_K["cpu"]) -> Rows:
        """Reduce full, unscaled `logits` fp32 [rows, vocab] on the host; `temperature` 0 counts as 1."""
        count, vocab = logits.shape
        width = min(k, vocab)
        top_logits, top_probs = np.empty((2, count, width), np.float32)
        log_normalizer, neg_entropy = np.empty((2, count), np.float32)
        top_ids = np.empty((count, width), np.int64)
        step = max(1, _AT_ONCE // vocab)
        for part in (slice(start, start + step) for start in range(0, count, step)):
            scaled = logits[part] / np.float32(temperature) if temperature > 0 else logits[part]
            probs, log_normalizer[part] = softmax(scaled)
            neg_entropy[part] = sum_information(probs)
            top_ids[part] = best = _best(scaled, width)
            top_logits[part] = np.take_along_axis(scaled, best, axis=1)
            top_probs[part] = np.take_along_axis(probs, best, axis=1)
        return cls(top_logits, top_ids, top_probs, log_normalizer, neg_entropy, lambda: logits)


def softmax(logits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Probabilities [rows, width] of `logits` fp32 [rows, width], and the log of each row's normalizer [rows].

    In double precision, rounded once. Where the best token is nearly certain, positions are put in order by the last
    bits of its probability: these are then the nearest fp32 to the true value, and equal where that is, on every
    processor. A sum in fp32 depends on how many numbers a processor adds at once.
    """
    highest = logits.max(axis=1, keepdims=True)
    exponentials = np.exp(logits - highest, dtype=np.float64)
    total = exponentials.sum(axis=1, keepdims=True)
    exponentials /= total
    return exponentials.astype(np.float32), (highest + np.log(total))[:, 0].astype(np.float32)


def sum_information(probs: FloatArray) -> FloatArray:
    """Sum [rows] of p · log(p + 1e-10) over `probs` fp32 [rows, width]; p + 1e-10 is fp32 as well, so 1 at 1."""
    information = probs * np.log(probs + np.float32(1e-10), dtype=np.float64)
    total: FloatArray = information.sum(axis=1).astype(np.float32)
    return total


def attended_keys(config: ModelConfig, queries: IntArray, keys: IntArray, seen: BoolArray) -> BoolArray:
    """The `attention_mask` bool [batch, 1 or active, keys] of a pass.

    Args:
        config: whose attention is full, or block-causal: Arriola et al., "Block Diffusion" (arXiv 2503.09573).
        queries: [batch, active] positions of the queries.
        keys: [batch, keys] positions of the keys.
        seen: [batch, keys] false for what no query attends to.
    """
    if config.causal_block is None:
        return seen[:, None]
    block: BoolArray = keys[:, None] // config.causal_block <= queries[:, :, None] // config.causal_block
    return block & seen[:, None]


class Network(Protocol):
    """A Dream network that can be asked for some rows of its logits. Immutable, and shared by threads."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def keeps_keys(self) -> bool:
        """Whether a pass can go on from the keys and values of earlier ones (`past`), and keep its own (`keep`)."""
        ...

    @property
    def pass_overhead(self) -> int:
        """How many positions cost as much as a pass costs besides its positions; see `together`."""
        ...

    def forward(
        self,
        input_ids: IntArray,
        position_ids: IntArray,
        attention_mask: BoolArray,
        logit_rows: IntArray,
        temperature: float,
        cancel: threading.Event | None,
        *,
        past: KeyValues | None = None,
        keep: bool = False,
    ) -> Rows:
        """One denoising forward pass over `input_ids` [batch, active] at `position_ids` [batch, active].

        `past` are keys and values that an earlier pass of this network computed; with `keep` the result holds those of
        this one. `attention_mask` [batch, queries, cached + active] says which keys each query attends to: never to
        padding, nor to past positions that are computed again; `queries` is 1 where they are the same for all, or
        `active`: see `attended_keys`. `logit_rows` [rows] index the flattened [batch · active] hidden states; row i
        predicts the token at i + `config.shift`. `temperature` divides the logits of the reduced outputs (0 = greedy,
        as 1).

        Raises:
            Cancelled: `cancel` was set, before the pass or while it ran.
        """
        ...


def _best(scaled: FloatArray, k: int) -> IntArray:
    """Ids [rows, k] of the k highest of `scaled` [rows, vocab]: highest first, equal ones by id."""
    if k == scaled.shape[1]:
        return np.argsort(-scaled, axis=1, kind="stable")
    ids = np.sort(np.argpartition(-scaled, k - 1, axis=1)[:, :k], axis=1)
    logits = np.take_along_axis(scaled, ids, axis=1)
    lowest = logits.min(axis=1, keepdims=True)
    for row in np.flatnonzero((scaled >= lowest).sum(axis=1) > k):  # a tie at the edge: the partition picks any of it
        ids[row] = np.sort(np.argsort(-scaled[row], kind="stable")[:k])
        logits[row] = scaled[row, ids[row]]
    order = np.argsort(-logits, axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1)

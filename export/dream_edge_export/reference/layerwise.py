"""The full-precision network one layer at a time, for a machine that cannot hold it.

All sequences go through one layer before the next is read. In between, their hidden states are kept: in memory, or in
files (`HiddenStates`).

    batches = make_batches(sequences, checkpoint.config, pad=False)
    hidden = [embed(checkpoint, batch.ids) for batch in batches]
    for index in range(checkpoint.config.num_hidden_layers):
        layer = load_layer(checkpoint, index)
        hidden = [batch.apply(layer, states) for batch, states in zip(batches, hidden, strict=True)]
        del layer  # or two of them are in memory while the next one is read
    logits = compute_logits(checkpoint, normalize(checkpoint, hidden[0])[0, rows])
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.files.writing import open_to_append, write_all
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, NORM, layer_name, weight_of

from ..checkpoint.checkpoint import Checkpoint
from .model import Layer, attention_mask, rotary_angles

TOKENS_AT_ONCE = 1024
"""In one application of a layer, unless one sequence is longer: of the 7B they take 0.3 GB of activations."""
LARGEST_SLICE = 1 << 28  # bytes of lm_head in fp32 at a time


# --- parts of the network --------------------------------------------------------------------------------------------


def load_layer(checkpoint: Checkpoint, index: int) -> Layer:
    """Layer `index` with its weights in fp32, ready for inference; of 7B it takes 0.93 GB.

    Raises:
        NonFiniteWeights, CheckpointChanged, UnreadableFile: as `Checkpoint.tensor`.
    """
    with torch.device("meta"):  # no memory or time for random weights that are replaced at once
        layer = Layer(checkpoint.config)
    prefix = f"{layer_name(index)}."
    weights = {name: checkpoint.tensor(prefix + name).to(torch.float32) for name in layer.state_dict()}
    layer.load_state_dict(weights, strict=True, assign=True)
    return layer.eval().requires_grad_(False)


def embed(checkpoint: Checkpoint, ids: Tensor) -> Tensor:
    """Rows of the embedding in fp32 [..., hidden] for `ids` int64 [...]; only these rows are read."""
    tokens = sorted(set(ids.flatten().tolist()))
    rows = torch.cat([checkpoint.rows(weight_of(EMBEDDING), token, token + 1) for token in tokens])
    return rows.to(torch.float32)[torch.searchsorted(torch.tensor(tokens), ids)]


def normalize(checkpoint: Checkpoint, hidden: Tensor) -> Tensor:
    """The normalisation before lm_head."""
    weight, eps = checkpoint.tensor(NORM).to(torch.float32), checkpoint.config.rms_norm_eps
    return F.rms_norm(hidden, weight.shape, weight, eps)


def compute_logits(checkpoint: Checkpoint, hidden: Tensor) -> Tensor:
    """Logits fp32 [rows, vocab] of normalised states [rows, hidden]; lm_head is read slice by slice.

    Every call reads all of lm_head (1.09 GB of 7B), so that many rows at a time are worth their memory: 0.6 MB a row.
    """
    vocab, width = checkpoint.shape(weight_of(LM_HEAD))
    logits = torch.empty(len(hidden), vocab)
    step = max(1, LARGEST_SLICE // (4 * width))
    for first in range(0, vocab, step):
        rows = checkpoint.rows(weight_of(LM_HEAD), first, min(first + step, vocab)).to(torch.float32)
        torch.mm(hidden, rows.T, out=logits[:, first : first + step])
    return logits


# --- sequences and their hidden states -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Sequences that go through a layer together, padded on the right to one length.

    Attributes:
        members: indices of the sequences.
        ids: int64 [sequences, length].
        mask: bool [sequences or 1, 1, length or 1, length] which keys each query attends to.
        angles: fp32 [1, 1, length, head_dim / 2].
        first: how many tokens the batches before it have, padding counted.
    """

    members: list[int]
    ids: Tensor
    mask: Tensor
    angles: Tensor
    first: int

    @property
    def tokens(self) -> int:
        """Padding counts."""
        return self.ids.numel()

    def apply(self, layer: Layer, hidden: Tensor) -> Tensor:
        """Hidden states [sequences, length, hidden] after `layer`."""
        result: Tensor = layer(hidden, self.angles, self.mask)
        return result


def make_batches(sequences: Sequence[IntArray], config: ModelConfig, *, pad: bool) -> list[Batch]:
    """All `sequences`, the shortest first, as many in a batch as are computed at once; of one length unless `pad`."""
    groups: list[list[int]] = []
    for index in sorted(range(len(sequences)), key=lambda index: len(sequences[index])):
        length = len(sequences[index])
        fits = groups and length * (len(groups[-1]) + 1) <= TOKENS_AT_ONCE
        if fits and (pad or len(sequences[groups[-1][0]]) == length):
            groups[-1].append(index)
        else:
            groups.append([index])
    return lay_batches(groups, sequences, config)


def lay_batches(groups: Iterable[list[int]], sequences: Sequence[IntArray], config: ModelConfig) -> list[Batch]:
    """A batch for each of `groups`, which hold indices of `sequences`."""
    batches: list[Batch] = []
    first = 0
    for members in groups:
        batches.append(_make_batch(members, [sequences[index] for index in members], config, first))
        first += batches[-1].tokens
    return batches


def _make_batch(members: list[int], sequences: Sequence[IntArray], config: ModelConfig, first: int) -> Batch:
    lengths = torch.tensor([len(ids) for ids in sequences])
    longest = int(lengths.max())
    ids = torch.zeros(len(members), longest, dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.from_numpy(sequence)
    valid = torch.arange(longest) < lengths[:, None]
    positions = torch.arange(longest)[None]
    mask = attention_mask(config, positions, valid[:1] if valid.all() else valid)
    return Batch(members, ids, mask, rotary_angles(config, positions), first)


class HiddenStates:
    """fp32 [tokens, width] in a file, in the order of the batches, so that memory does not grow with their number.

    Nothing is mapped: it would count as resident memory.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path, self.width = path, width

    def rows(self, first: int, count: int) -> Tensor:
        """[count, width]; EOFError where they were not written."""
        values = np.fromfile(self.path, "<f4", count * self.width, offset=4 * first * self.width)
        if len(values) < count * self.width:
            raise EOFError(self.path)
        return torch.from_numpy(values.reshape(count, self.width))

    def read(self, batch: Batch) -> Tensor:
        """[sequences, length, width]; EOFError where they were not written."""
        return self.rows(batch.first, batch.tokens).view(*batch.ids.shape, self.width)

    def append(self, batch: Batch, values: Tensor) -> None:
        """Write the states of `batch`, cutting off what came after it."""
        fd = open_to_append(self.path, 4 * self.width * batch.first)
        try:
            write_all(fd, as_bytes(values))
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Have them on the disk."""
        fd = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def as_bytes(values: Tensor) -> memoryview:
    """`values` as a file of hidden states holds them."""
    return np.ascontiguousarray(values.numpy(), "<f4").reshape(-1).view(np.uint8).data

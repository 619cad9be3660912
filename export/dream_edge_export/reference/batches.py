"""Sequences of different lengths side by side, as the layers of the reference take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.format.model_config import ModelConfig

from .model import Layer, rotary_angles

TOKENS_AT_ONCE = 1024
"""In one application of a layer, unless one sequence is longer; of the 7B they take 0.3 GB of activations."""


@dataclass(frozen=True)
class Canvas:
    """A sequence, and the rows whose predictions count.

    Attributes:
        ids: int64 [length].
        rows: int64 [rows] of the network's output: with the shift, one before the masked positions.
    """

    ids: IntArray
    rows: IntArray


@dataclass(frozen=True)
class Batch:
    """Sequences of nearly one length, padded on the right.

    Attributes:
        members: indices of the canvases.
        ids: int64 [sequences, length].
        key_mask: bool [sequences, 1, 1, length].
        angles: fp32 [1, 1, length, head_dim / 2].
    """

    members: list[int]
    ids: Tensor
    key_mask: Tensor
    angles: Tensor

    def apply(self, layer: Layer, state: Tensor, members: list[int]) -> None:
        """Replace the states [variants, sequences, length, hidden] of `members` by what `layer` makes of them."""
        sequences = len(self.ids)
        at_once = max(1, TOKENS_AT_ONCE // self.ids.numel())
        for first in range(0, len(members), at_once):
            chosen = members[first : first + at_once]
            hidden = state[chosen].flatten(0, 1)
            mask = self.key_mask.repeat(len(chosen), 1, 1, 1)
            state[chosen] = layer(hidden, self.angles, mask).unflatten(0, (len(chosen), sequences))


def batches(canvases: Sequence[Canvas], config: ModelConfig) -> list[Batch]:
    """All canvases, the shortest first, as many in a batch as are computed at once."""
    by_length = sorted(range(len(canvases)), key=lambda index: len(canvases[index].ids))
    groups: list[list[int]] = []
    for index in by_length:
        length = len(canvases[index].ids)
        if groups and length * (len(groups[-1]) + 1) <= TOKENS_AT_ONCE:
            groups[-1].append(index)
        else:
            groups.append([index])
    return [_batch(members, canvases, config) for members in groups]


def _batch(members: list[int], canvases: Sequence[Canvas], config: ModelConfig) -> Batch:
    lengths = [len(canvases[index].ids) for index in members]
    longest = max(lengths)
    ids = torch.zeros(len(members), longest, dtype=torch.int64)
    valid = torch.zeros(len(members), longest, dtype=torch.bool)
    for row, (index, length) in enumerate(zip(members, lengths, strict=True)):
        ids[row, :length] = torch.from_numpy(canvases[index].ids)
        valid[row, :length] = True
    return Batch(members, ids, valid[:, None, None, :], rotary_angles(config, torch.arange(longest)[None]))

"""What the network sees while it is calibrated: partly masked sequences, as at any moment of a denoising."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.errors import InvalidOption

TOKENS_AT_ONCE = 1024
"""Positions that go through a layer together: of 7B, 78 MB for each activation of the widest kind."""


class Batch(NamedTuple):
    """Canvases of one length; the hidden states of their tokens are the rows from `first` on."""

    ids: Tensor
    """int64 [canvases, length]"""
    first: int

    @property
    def tokens(self) -> int:
        return self.ids.numel()


@dataclass(frozen=True)
class CalibrationSet:
    """Canvases with masks on them, and a name for where they are from, which the manifest keeps.

    Attributes:
        name: e.g. "built-in".
        canvases: token ids [length] each.

    Raises: InvalidOption.
    """

    name: str
    canvases: tuple[IntArray, ...]

    def __post_init__(self) -> None:
        if not self.canvases or not all(canvas.ndim == 1 and len(canvas) for canvas in self.canvases):
            raise InvalidOption("calibration", len(self.canvases), "must hold at least one canvas, none of them empty")
        if not self.name.isprintable() or len(self.name) > 100:
            raise InvalidOption("calibration", ascii(self.name)[:100], "must have a printable name of one line")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canvases, in hex."""
        digest = hashlib.sha256()
        for canvas in self.canvases:
            digest.update(len(canvas).to_bytes(8, "little") + np.asarray(canvas, "<i8").tobytes())
        return digest.hexdigest()

    @property
    def tokens(self) -> int:
        """Of all canvases together."""
        return sum(map(len, self.canvases))

    def __str__(self) -> str:
        return f"{self.name}, {len(self.canvases)} masked sequences, {self.tokens} tokens, {self.digest[:12]}"

    def batches(self) -> Iterator[Batch]:
        """All canvases by length, so that none needs padding; of one length in their order."""
        by_length: dict[int, list[IntArray]] = {}
        for canvas in self.canvases:
            by_length.setdefault(len(canvas), []).append(canvas)
        first = 0
        for length, canvases in sorted(by_length.items()):
            at_once = max(1, TOKENS_AT_ONCE // length)
            for start in range(0, len(canvases), at_once):
                batch = Batch(torch.from_numpy(np.stack(canvases[start : start + at_once])), first)
                yield batch
                first += batch.tokens

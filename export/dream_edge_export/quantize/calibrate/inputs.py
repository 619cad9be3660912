"""The inputs of a calibration: partly masked sequences, as at any step of a denoising."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.errors import InvalidOption


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
        """The number of tokens in all canvases."""
        return sum(map(len, self.canvases))

    def __str__(self) -> str:
        return f"{self.name}, {len(self.canvases)} masked sequences, {self.tokens} tokens, {self.digest[:12]}"

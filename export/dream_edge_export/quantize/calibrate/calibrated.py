"""What a finished calibration gives the export."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

import torch

from dream_edge_runtime.format.layout import Weight
from dream_edge_runtime.format.tensors import LM_HEAD

from ...checkpoint.checkpoint import Checkpoint
from ..weights import Part, encoded
from .store import Store


class Calibrated:
    """The weights of a network whose layers `store` holds; the embedding and lm_head are rounded to nearest."""

    def __init__(self, checkpoint: Checkpoint, store: Store) -> None:
        self._checkpoint, self._store = checkpoint, store

    def encoded(self, weight: Weight, pool: Executor) -> Iterator[Part]:
        """As `weights.encoded`."""
        if weight.name == LM_HEAD:
            yield from encoded(self._checkpoint, weight, pool, torch.from_numpy(self._store.head_columns()))
        elif self._store.holds(weight.name):
            for spec in weight.specs:
                yield spec.name, self._store.tensor(spec.name)
        else:
            yield from encoded(self._checkpoint, weight, pool)

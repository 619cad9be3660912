"""The full-precision network behind the interface that the unmasking loop drives, read anew for every pass."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.inference.network import KeyValues, Rows

from ..checkpoint.checkpoint import Checkpoint
from .layerwise import StreamedReference

_ROWS_REDUCED = 64  # of a vocabulary of 152064: 39 MB an array


@dataclass(frozen=True)
class StreamedNetwork:
    """`Dream` as a `Network` that holds one layer at a time.

    A pass reads the whole checkpoint, so that all sequences should go through it together. It remembers no keys and
    values: decode with `cache="none"`.
    """

    checkpoint: Checkpoint

    @property
    def config(self) -> ModelConfig:
        return self.checkpoint.config

    def forward(
        self,
        input_ids: IntArray,
        position_ids: IntArray,
        key_mask: BoolArray,
        logit_rows: IntArray,
        temperature: float,
        cancel: threading.Event | None = None,
        *,
        past: KeyValues | None = None,
        keep: bool = False,
    ) -> Rows:
        """One pass over whole canvases, padded on the left; see `Network.forward`. `logit_rows` ascend."""
        if past is not None:
            raise TypeError("the reference keeps no keys and values: decode without a cache")
        length = input_ids.shape[1]
        sequences = [ids[valid] for ids, valid in zip(input_ids, key_mask, strict=True)]
        asked = [
            logit_rows[logit_rows // length == row] % length - (length - len(ids)) for row, ids in enumerate(sequences)
        ]
        with tempfile.TemporaryDirectory(prefix="dream-edge-") as directory:
            reference = StreamedReference(self.checkpoint, sequences, asked, Path(directory))
            for stage in range(reference.stages):
                if cancel is not None and cancel.is_set():
                    raise Cancelled
                reference.run(stage)
                reference.forget(stage)
            logits = np.concatenate([*reference.logits()])
        return _reduced(logits, temperature)


def _reduced(logits: FloatArray, temperature: float) -> Rows:
    """As `Rows.from_logits`, some rows at a time: it holds several arrays of their size."""
    starts = range(0, len(logits), _ROWS_REDUCED)
    parts = [Rows.from_logits(logits[start : start + _ROWS_REDUCED], temperature) for start in starts]
    return Rows(
        np.concatenate([part.top_logits for part in parts]),
        np.concatenate([part.top_ids for part in parts]),
        np.concatenate([part.top_probs for part in parts]),
        np.concatenate([part.log_normalizer for part in parts]),
        np.concatenate([part.neg_entropy for part in parts]),
        lambda: logits,
    )

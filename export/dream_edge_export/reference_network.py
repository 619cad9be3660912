"""The full-precision network behind the interface that the unmasking loop drives."""

from __future__ import annotations

import threading

import torch

from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.config import ModelConfig
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.network import KeyValues, Rows

from .reference import Dream


class ReferenceNetwork:
    """`Dream` as a `Network`, so that reference and artifact are decoded by the same code.

    It remembers no keys and values: decode with `cache="none"` or `exact=True`.
    """

    def __init__(self, network: Dream) -> None:
        self._network = network

    @property
    def config(self) -> ModelConfig:
        return self._network.config

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
        """One pass over whole canvases; see `Network.forward`. `position_ids` must count the valid tokens."""
        if past is not None:
            raise TypeError("the reference keeps no keys and values: decode without a cache")
        if cancel is not None and cancel.is_set():
            raise Cancelled
        with torch.inference_mode():
            hidden = self._network.model(torch.from_numpy(input_ids), torch.from_numpy(key_mask)).flatten(0, 1)
            logits: FloatArray = self._network.lm_head(hidden[torch.from_numpy(logit_rows)]).float().numpy()
        return Rows.from_logits(logits, temperature)

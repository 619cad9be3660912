"""The full-precision network as the `Network` that the unmasking loop drives: in memory, or read for every pass."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.inference.network import KeyValues, Network, Rows
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import listed_ends

from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.tokenizer import load_tokenizer
from .model import Dream, load_reference
from .staged import StagedReference


class ReferenceNetwork:
    """`Dream` as a `Network`, so that reference and artifact are decoded by the same code.

    It keeps no keys and values: decode with `cache="none"` or `exact=True`.
    """

    keeps_keys = False
    pass_overhead = 8

    def __init__(self, network: Dream) -> None:
        self._network = network

    @property
    def config(self) -> ModelConfig:
        return self._network.config

    def forward(
        self,
        input_ids: IntArray,
        position_ids: IntArray,
        attention_mask: BoolArray,
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
            mask = torch.from_numpy(attention_mask)
            hidden = self._network.model(torch.from_numpy(input_ids), mask.any(dim=1), mask[:, None]).flatten(0, 1)
            logits: FloatArray = self._network.lm_head(hidden[torch.from_numpy(logit_rows)]).float().numpy()
        return Rows.from_logits(logits, temperature)


@dataclass(frozen=True)
class LayerwiseNetwork:
    """`Dream` as a `Network` that holds one layer at a time.

    A pass reads the whole checkpoint, so that all sequences should go through it together. It keeps no keys and values:
    decode with `cache="none"`.
    """

    checkpoint: Checkpoint
    keeps_keys: bool = field(default=False, init=False)
    pass_overhead: int = field(default=1 << 20, init=False)

    @property
    def config(self) -> ModelConfig:
        return self.checkpoint.config

    def forward(
        self,
        input_ids: IntArray,
        position_ids: IntArray,
        attention_mask: BoolArray,
        logit_rows: IntArray,
        temperature: float,
        cancel: threading.Event | None = None,
        *,
        past: KeyValues | None = None,
        keep: bool = False,
    ) -> Rows:
        """One pass over whole canvases, with or without padding; see `Network.forward`. `logit_rows` ascend."""
        if past is not None:
            raise TypeError("the reference keeps no keys and values: decode without a cache")
        length = input_ids.shape[1]
        real: BoolArray = attention_mask.max(axis=1)
        sequences = [ids[valid] for ids, valid in zip(input_ids, real, strict=True)]
        queries = real if attention_mask.shape[1] > 1 else np.ones((len(real), 1), np.bool_)
        masks = [mask[np.ix_(*each)] for mask, *each in zip(attention_mask, queries, real, strict=True)]
        asked = [
            (valid.cumsum() - 1)[logit_rows[logit_rows // length == row] % length] for row, valid in enumerate(real)
        ]
        with tempfile.TemporaryDirectory(prefix="dream-edge-") as directory:
            reference = StagedReference(self.checkpoint, sequences, asked, Path(directory), masks=masks)
            for stage in range(reference.stages):
                if cancel is not None and cancel.is_set():
                    raise Cancelled
                reference.run(stage)
                reference.forget(stage)
            logits = np.concatenate([*reference.logits()])
        return Rows.from_logits(logits, temperature)


def reference_model(checkpoint: Checkpoint, network: Network | None = None) -> DreamModel:
    """The full-precision network as a model that generates, with the checkpoint's tokenizer and settings.

    Args:
        network: another form of it than the one in memory, such as one read from the disk for every pass.

    It keeps no keys and values: generate with `exact=True`, or `cache="none"`.

    Raises:
        InvalidTokenizer, UnreadableFile, InvalidConfig: the tokenizer's files, or generation_config.json.
        NonFiniteWeights: a tensor holds NaN or infinity.
    """
    source = checkpoint.path / "generation_config.json"
    tokenizer = load_tokenizer(checkpoint.path, checkpoint.config)
    defaults = GenerationConfig.from_checkpoint(checkpoint.generation_defaults, source, checkpoint.config)
    ends = listed_ends(checkpoint.generation_defaults)
    return DreamModel(network or ReferenceNetwork(load_reference(checkpoint)), tokenizer, defaults, ends=ends)

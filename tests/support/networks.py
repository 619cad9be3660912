"""Networks for tests of the loop: random logits that depend on the whole canvas, a fixed table, and the reference."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_edge_export.reference.model import Dream
from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.inference.network import KeyValues, Rows

from .checkpoints import FORM, GEOMETRY, random_weights
from .vocabulary import special_ids


def small_config(**fields: Any) -> ModelConfig:
    """A small geometry; `fields` of it may be replaced."""
    values = {**GEOMETRY, **special_ids(), "expand_token_id": None, "shift": 1, **FORM, **fields}
    return ModelConfig(**{"context": values["max_position_embeddings"], **values})


def tiny_vocabulary(vocab_size: int = 48, **fields: Any) -> ModelConfig:
    """A vocabulary of a few ids, the last two of them pad (= bos = eos) and mask."""
    end = vocab_size - 2
    special = {"mask_token_id": end + 1, "pad_token_id": end, "bos_token_id": end, "eos_token_id": end}
    return small_config(vocab_size=vocab_size, **special, **fields)


class FakeNetwork:
    """Any function from a canvas to logits, as the network that the loop drives.

    `logits_of(ids, valid)` gives fp32 [batch, length, vocab]. `k` is how many of the best logits a pass returns. What
    was asked is counted.
    """

    def __init__(self, config: ModelConfig, logits_of: Callable[[Tensor, Tensor], Tensor], k: int = 64) -> None:
        self.config, self.logits_of, self.k = config, logits_of, k
        self.keeps_keys, self.pass_overhead = False, 1 << 20  # whatever can go through a pass together does
        self.passes = self.fetches = self.rows = 0
        self.before_pass: Callable[[], None] = lambda: None

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
        assert past is None
        assert input_ids.dtype == position_ids.dtype == logit_rows.dtype == np.int64
        assert attention_mask.dtype == np.bool_
        valid = attention_mask[:, -1]
        assert input_ids.shape == position_ids.shape == valid.shape
        assert (position_ids == np.maximum(valid.cumsum(1) - 1, 0)).all()
        self.before_pass()
        self.passes += 1
        self.rows += len(logit_rows)
        with torch.inference_mode():
            logits = self.logits_of(torch.from_numpy(input_ids), torch.from_numpy(valid)).numpy()
        asked: FloatArray = logits.reshape(-1, logits.shape[-1])[logit_rows]
        rows = Rows.from_logits(asked, temperature, self.k)

        def fetch() -> FloatArray:
            self.fetches += 1
            return asked.copy()

        return Rows(rows.top_logits, rows.top_ids, rows.top_probs, rows.log_normalizer, rows.neg_entropy, fetch)


def random_network(config: ModelConfig, *, seed: int = 0, scale: float = 3.0, k: int = 64) -> FakeNetwork:
    """Random logits that depend on every valid token of the sequence and on its place: a network without one.

    Sums are taken in double precision, so that padding and batching change nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    length = config.max_position_embeddings
    tokens = torch.randn(config.vocab_size, 16, generator=generator, dtype=torch.float64)
    places = torch.randn(length, 16, generator=generator, dtype=torch.float64)
    head = torch.randn(16, config.vocab_size, generator=generator, dtype=torch.float64) * scale / 4

    def logits_of(ids: Tensor, valid: Tensor) -> Tensor:
        at = (valid.cumsum(1) - 1).clamp(min=0)
        own = tokens[ids] * places[at].cos()
        context = (own * valid[..., None]).sum(1, keepdim=True)
        hidden = torch.sin(3 * own + context + places[at])
        return (hidden @ head).float()

    return FakeNetwork(config, logits_of, k)


def table_network(config: ModelConfig, table: FloatArray, *, k: int = 64) -> FakeNetwork:
    """The same logits whatever the tokens: row i of `table` [length, vocab] *after* the shift, so for position i.

    Row 0 is not reachable by the shift unless it equals row 1.
    """
    rows = torch.from_numpy(np.concatenate([table[1:], table[-1:]]))

    def logits_of(ids: Tensor, _valid: Tensor) -> Tensor:
        return rows[: ids.shape[1]].expand(len(ids), -1, -1)

    return FakeNetwork(config, logits_of, k)


def reference_network(config: ModelConfig, *, seed: int = 0, k: int = 64) -> FakeNetwork:
    """The PyTorch reference with random weights."""
    network = Dream(config).eval()
    network.load_state_dict(random_weights(config, seed=seed), strict=True)
    return FakeNetwork(config, network, k)

"""The full-precision network in pieces, for a machine that cannot hold it: one layer, a few rows, a slice at a time.

The layers are those of `reference`, in fp32. Whoever streams keeps the hidden states:

    hidden = [embed(checkpoint, ids) for ids in sequences]
    for layer in layers(checkpoint):
        hidden = [run_layer(layer, states, checkpoint.config) for states in hidden]
        del layer  # or two of them are in memory while the next one is read
    logits = lm_head_logits(checkpoint, norm(checkpoint, hidden[0])[rows])
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, NORM, layer_name, weight_of

from ..checkpoint.checkpoint import Checkpoint
from .model import Layer, rotary_angles

LARGEST_SLICE = 1 << 28  # bytes of lm_head in fp32 at a time


def layers(checkpoint: Checkpoint, start: int = 0) -> Iterator[Layer]:
    """The layers from `start` on, one after the other; of 7B, one takes 0.93 GB. Errors as for `load_layer`."""
    for index in range(start, checkpoint.config.num_hidden_layers):
        yield load_layer(checkpoint, index)


def load_layer(checkpoint: Checkpoint, index: int) -> Layer:
    """Layer `index` with its weights in fp32, ready for inference.

    Raises:
        NonFiniteWeights, CheckpointChanged, UnreadableFile: as `Checkpoint.tensor`.
    """
    with torch.device("meta"):  # no memory or time for random weights that are replaced at once
        layer = Layer(checkpoint.config)
    prefix = f"{layer_name(index)}."
    weights = {name: checkpoint.tensor(prefix + name).to(torch.float32) for name in layer.state_dict()}
    layer.load_state_dict(weights, strict=True, assign=True)
    return layer.eval().requires_grad_(False)


def run_layer(layer: Layer, hidden: Tensor, config: ModelConfig) -> Tensor:
    """Hidden states [batch, length, hidden] after `layer`; every position is a token, attended to by all."""
    length = hidden.shape[1]
    everyone = torch.ones(1, 1, 1, length, dtype=torch.bool)
    result: Tensor = layer(hidden, rotary_angles(config, torch.arange(length)[None]), everyone)
    return result


def embed(checkpoint: Checkpoint, ids: Tensor) -> Tensor:
    """Rows of the embedding in fp32 [..., hidden] for `ids` int64 [...]; only these rows are read."""
    tokens = sorted(set(ids.flatten().tolist()))
    rows = torch.cat([checkpoint.rows(weight_of(EMBEDDING), token, token + 1) for token in tokens])
    return rows.to(torch.float32)[torch.searchsorted(torch.tensor(tokens), ids)]


def norm(checkpoint: Checkpoint, hidden: Tensor) -> Tensor:
    """The normalisation before lm_head."""
    weight, eps = checkpoint.tensor(NORM).to(torch.float32), checkpoint.config.rms_norm_eps
    return F.rms_norm(hidden, weight.shape, weight, eps)


def lm_head_logits(checkpoint: Checkpoint, hidden: Tensor) -> Tensor:
    """Logits fp32 [rows, vocab] of normalised states [rows, hidden]; lm_head is read slice by slice.

    Every call reads all of lm_head (1.09 GB of 7B), so that many rows at a time are worth their memory: 0.6 MB a row.
    """
    vocab, width = checkpoint.shape(weight_of(LM_HEAD))
    logits = torch.empty(len(hidden), vocab)
    step = max(1, LARGEST_SLICE // (4 * width))
    for first in range(0, vocab, step):
        last = min(first + step, vocab)
        torch.mm(
            hidden, checkpoint.rows(weight_of(LM_HEAD), first, last).to(torch.float32).T, out=logits[:, first:last]
        )
    return logits

"""Dream in NumPy, in fp64, one plain loop: an oracle into which any arithmetic of the matrix products can be put."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.arrays import BoolArray, IntArray
from dream_edge_runtime.format.model_config import ModelConfig

DoubleArray = NDArray[np.float64]

Product = Callable[[str, DoubleArray], DoubleArray]
"""Name of a matrix, e.g. "model.layers.0.mlp.up_proj", and its inputs [tokens, in] → outputs [tokens, out], no bias."""


def oracle_logits(
    config: ModelConfig,
    embedding: DoubleArray,
    vectors: dict[str, NDArray[Any]],
    product: Product,
    ids: IntArray,
    valid: BoolArray,
) -> DoubleArray:
    """Logits [batch * length, vocab] of a full pass; `vectors` are biases and norms by name."""
    batch, length = ids.shape
    positions = np.maximum(valid.cumsum(axis=1) - 1, 0)
    block = positions // (config.causal_block or length)
    seen = valid[:, None, :] & (block[:, None, :] <= block[:, :, None])
    hidden = embedding[ids.reshape(-1)]
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}"
        x = rms_norm(hidden, vectors[f"{layer}.input_layernorm.weight"], config)
        heads = {}
        for part in "qkv":
            projected = product(f"{layer}.self_attn.{part}_proj", x)
            if config.attention_bias:
                projected = projected + vectors[f"{layer}.self_attn.{part}_proj.bias"]
            heads[part] = projected.reshape(batch, length, -1, config.head_dim).transpose(0, 2, 1, 3)
            if config.qk_norm and part != "v":
                heads[part] = rms_norm(heads[part], vectors[f"{layer}.self_attn.{part}_norm.weight"], config)
        query, key = (turned(heads[part], positions, config) for part in "qk")
        attended = attend(query, key, heads["v"], seen)
        hidden = hidden + product(f"{layer}.self_attn.o_proj", attended)
        x = rms_norm(hidden, vectors[f"{layer}.post_attention_layernorm.weight"], config)
        gate = product(f"{layer}.mlp.gate_proj", x)
        activated = gate / (1 + np.exp(-gate)) * product(f"{layer}.mlp.up_proj", x)
        hidden = hidden + product(f"{layer}.mlp.down_proj", activated)
    return product("lm_head", rms_norm(hidden, vectors["model.norm.weight"], config))


def rms_norm(x: DoubleArray, weight: NDArray[Any], config: ModelConfig) -> DoubleArray:
    return np.asarray(x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + config.rms_norm_eps) * weight)


def turned(heads: DoubleArray, positions: IntArray, config: ModelConfig) -> DoubleArray:
    """Rotary embedding as a complex product: the pair (i, i + head_dim / 2) is one complex number."""
    half = config.head_dim // 2
    angles = positions[:, None, :, None] * config.rope_theta ** (-np.arange(half) / half)
    pairs = (heads[..., :half] + 1j * heads[..., half:]) * (np.cos(angles) + 1j * np.sin(angles))
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def attend(query: DoubleArray, key: DoubleArray, value: DoubleArray, seen: BoolArray) -> DoubleArray:
    """[batch * length, heads * head_dim]; every head by itself, over the keys `seen` [batch, queries, keys] only."""
    batch, heads, length, size = query.shape
    group = heads // key.shape[1]
    merged = np.zeros((batch, length, heads, size))
    for row in range(batch):
        for head in range(heads):
            scores = query[row, head] @ key[row, head // group].T / np.sqrt(size)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True)) * seen[row]
            weights /= np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)  # padding may see nothing
            merged[row, :, head] = weights @ value[row, head // group]
    return merged.reshape(batch * length, heads * size)

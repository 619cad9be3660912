"""The layers of Dream: Qwen2.5 with full attention, over active positions and cached keys and values.

Tokens of all sequences are one dimension, [batch * active, ...], but inside attention, where heads are
[batch, heads, active, head_dim].

The stream of hidden states, the norms and the rotation of heads are fp32 on every target: Qwen2's stream holds values
that fp16 would round to multiples of 8. What enters a matrix product or attention has the activations' type.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import NamedTuple

import numpy as np

from ..arrays import FloatArray
from ..format.model_config import ModelConfig
from ..format.recipe import Formats
from ..format.tensors import EMBEDDING
from .linear import Activations, Embedding, Linear
from .op import Op, Value


class KeyValue(NamedTuple):
    """Rotated keys and values [batch, kv_heads, positions, head_dim]."""

    key: Value
    value: Value


class Canvas(NamedTuple):
    """What all layers of a pass share about the active positions."""

    cos: Value
    sin: Value
    """Rotary angles' cosines and sines [batch, active, head_dim / 2]."""
    mask: Value
    """bool [batch, 1, active, keys]; false = not attended to."""
    heads: Value
    """The shape that splits projected tokens into heads: [batch, active, -1, head_dim]."""
    dtype: str
    """The type of what enters a matrix product or attention."""


class Decoder:
    """Embedding, layers and the final norm, which only the asked rows go through."""

    def __init__(self, config: ModelConfig, formats: Formats) -> None:
        self.config = config
        self.embed_tokens = Embedding(EMBEDDING, formats.embedding)
        self.layers = [Layer(config, formats, f"model.layers.{index}") for index in range(config.num_hidden_layers)]
        self.norm = RMSNorm("model.norm", config.rms_norm_eps)

    def __call__(
        self,
        op: Op,
        input_ids: Value,
        position_ids: Value,
        key_mask: Value,
        past: list[KeyValue],
        logit_rows: Value,
        dtype: str,
    ) -> tuple[Value, list[KeyValue]]:
        """Normalised hidden states [rows, hidden], fp32, of the asked rows; keys and values of the active positions."""
        hidden = self.embed_tokens(op, op.Reshape(input_ids, [-1]))
        canvas = lay_out(op, position_ids, key_mask, self.config, dtype)
        present = []
        for layer, cached in zip(self.layers, past, strict=True):
            hidden, computed = layer(op, hidden, canvas, cached)
            present.append(computed)
        return self.norm(op, op.Gather(hidden, logit_rows, axis=0)), present


class Layer:
    def __init__(self, config: ModelConfig, formats: Formats, name: str) -> None:
        self.input_layernorm = RMSNorm(f"{name}.input_layernorm", config.rms_norm_eps)
        self.self_attn = Attention(config, formats, f"{name}.self_attn")
        self.post_attention_layernorm = RMSNorm(f"{name}.post_attention_layernorm", config.rms_norm_eps)
        self.mlp = MLP(config, formats, f"{name}.mlp")

    def __call__(self, op: Op, hidden: Value, canvas: Canvas, past: KeyValue) -> tuple[Value, KeyValue]:
        normed = op.Cast(self.input_layernorm(op, hidden), canvas.dtype)
        attended, present = self.self_attn(op, Activations(normed), canvas, past)
        hidden = op.Add(hidden, op.Cast(attended, "float32"))
        normed = op.Cast(self.post_attention_layernorm(op, hidden), canvas.dtype)
        projected = self.mlp(op, Activations(normed))
        return op.Add(hidden, op.Cast(projected, "float32")), present


class Attention:
    """Bidirectional grouped-query attention over cached and active keys; their order does not matter."""

    def __init__(self, config: ModelConfig, formats: Formats, name: str) -> None:
        hidden, kv = config.hidden_size, config.kv_size
        self.name, self.hidden_size = name, hidden
        self.q_proj = Linear(f"{name}.q_proj", formats.of(f"{name}.q_proj"), hidden, hidden, bias=True)
        self.k_proj = Linear(f"{name}.k_proj", formats.of(f"{name}.k_proj"), kv, hidden, bias=True)
        self.v_proj = Linear(f"{name}.v_proj", formats.of(f"{name}.v_proj"), kv, hidden, bias=True)
        self.o_proj = Linear(f"{name}.o_proj", formats.of(f"{name}.o_proj"), hidden, hidden)

    def __call__(self, op: Op, x: Activations, canvas: Canvas, past: KeyValue) -> tuple[Value, KeyValue]:
        with op.block(self.name):
            query = rotate(op, split_heads(op, self.q_proj(op, x), canvas), canvas)
            present = KeyValue(
                rotate(op, split_heads(op, self.k_proj(op, x), canvas), canvas),
                split_heads(op, op.Cast(self.v_proj(op, x), canvas.dtype), canvas),
            )
            attended = op.Attention(
                query,
                op.Concat(past.key, present.key, axis=2),
                op.Concat(past.value, present.value, axis=2),
                canvas.mask,
                is_causal=0,
            )
            merged = op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), [-1, self.hidden_size])
            return self.o_proj(op, Activations(merged)), present


class MLP:
    def __init__(self, config: ModelConfig, formats: Formats, name: str) -> None:
        hidden, inner = config.hidden_size, config.intermediate_size
        self.name = name
        self.gate_proj = Linear(f"{name}.gate_proj", formats.of(f"{name}.gate_proj"), inner, hidden)
        self.up_proj = Linear(f"{name}.up_proj", formats.of(f"{name}.up_proj"), inner, hidden)
        self.down_proj = Linear(f"{name}.down_proj", formats.of(f"{name}.down_proj"), hidden, inner)

    def __call__(self, op: Op, x: Activations) -> Value:
        with op.block(self.name):
            gate = self.gate_proj(op, x)
            activated = op.Mul(gate, op.Sigmoid(gate))
            return self.down_proj(op, Activations(op.Mul(activated, self.up_proj(op, x))))


class RMSNorm(NamedTuple):
    name: str
    epsilon: float

    def __call__(self, op: Op, hidden: Value) -> Value:
        with op.block(self.name):
            return op.RMSNormalization(hidden, op.weight(f"{self.name}.weight"), axis=-1, epsilon=self.epsilon)


def lay_out(op: Op, position_ids: Value, key_mask: Value, config: ModelConfig, dtype: str) -> Canvas:
    """Angles are computed once a pass from the positions, so that no table bounds the context."""
    positions = op.Cast(op.Unsqueeze(position_ids, [-1]), "float32")
    angles = op.Mul(positions, op.constant(rotary_frequencies(config)))
    batch, active = op.Shape(position_ids, start=0, end=1), op.Shape(position_ids, start=1, end=2)
    keys = op.Shape(key_mask, start=1, end=2)
    # the Attention operator wants the row dimension spelled out
    mask = op.Expand(op.Unsqueeze(key_mask, [1, 2]), op.Concat(batch, [1], active, keys, axis=0))
    heads = op.Concat(batch, active, [-1, config.head_dim], axis=0)
    return Canvas(op.Cos(angles), op.Sin(angles), mask, heads, dtype)


def rotary_frequencies(config: ModelConfig) -> FloatArray:
    """theta ^ (-2 i / head_dim) [head_dim / 2]: in decimals, since powers of floats differ between C libraries."""
    context = Context(prec=40)
    theta, pairs = Decimal(config.rope_theta), range(config.head_dim // 2)
    exponents = [context.divide(Decimal(-2 * pair), Decimal(config.head_dim)) for pair in pairs]
    return np.array([float(context.power(theta, exponent)) for exponent in exponents], "<f4")


def split_heads(op: Op, projected: Value, canvas: Canvas) -> Value:
    """[batch * active, heads * head_dim] → [batch, heads, active, head_dim]"""
    return op.Transpose(op.Reshape(projected, canvas.heads), perm=[0, 2, 1, 3])


def rotate(op: Op, heads: Value, canvas: Canvas) -> Value:
    """Rotary position embedding, pairs (i, i + head_dim / 2), computed in fp32."""
    return op.Cast(op.RotaryEmbedding(heads, canvas.cos, canvas.sin, interleaved=0), canvas.dtype)

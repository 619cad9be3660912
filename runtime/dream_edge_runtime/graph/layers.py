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
from ..format.tensors import EMBEDDING, layer_name, matrix_shapes
from .linear import Activations, Linear, look_up
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


class Decoder:
    """Records embedding, layers and the final norm, which only the asked rows go through, in `op`.

    Attributes:
        matrices: the products with each matrix, by name; the caller's is lm_head.
    """

    def __init__(self, op: Op, config: ModelConfig, formats: Formats, dtype: str) -> None:
        self.op, self.config, self.formats = op, config, formats
        self.dtype = dtype  # of what enters a matrix product or attention
        self.matrices = {
            name: Linear(op, name, formats.of(name), *shape, bias=f"{name}.bias" in op.weights)
            for name, shape in matrix_shapes(config).items()
        }

    def record(self) -> tuple[Value, list[KeyValue]]:
        """Normalised hidden states [rows, hidden], fp32, of the asked rows; keys and values of the active positions."""
        op = self.op
        hidden = look_up(op, op.Reshape(op.input("input_ids"), [-1]), EMBEDDING, self.formats.embedding)
        canvas, present = self._lay_out(), []
        for index in range(self.config.num_hidden_layers):
            past = KeyValue(*(op.input(f"past_key_values.{index}.{part}") for part in KeyValue._fields))
            hidden, computed = self._layer(layer_name(index), hidden, canvas, past)
            present.append(computed)
        return self._norm("model.norm", op.Gather(hidden, op.input("logit_rows"), axis=0)), present

    def _layer(self, name: str, hidden: Value, canvas: Canvas, past: KeyValue) -> tuple[Value, KeyValue]:
        op = self.op
        normed = op.Cast(self._norm(f"{name}.input_layernorm", hidden), self.dtype)
        attended, present = self._attention(f"{name}.self_attn", Activations(normed), canvas, past)
        hidden = op.Add(hidden, op.Cast(attended, "float32"))
        normed = op.Cast(self._norm(f"{name}.post_attention_layernorm", hidden), self.dtype)
        projected = self._mlp(f"{name}.mlp", Activations(normed))
        return op.Add(hidden, op.Cast(projected, "float32")), present

    def _attention(self, name: str, x: Activations, canvas: Canvas, past: KeyValue) -> tuple[Value, KeyValue]:
        """Bidirectional grouped-query attention over cached and active keys; their order does not matter."""
        op = self.op
        with op.block(name):
            query = self._rotate(self._split(self.matrices[f"{name}.q_proj"](x), canvas), canvas)
            key = self._rotate(self._split(self.matrices[f"{name}.k_proj"](x), canvas), canvas)
            value = self._split(op.Cast(self.matrices[f"{name}.v_proj"](x), self.dtype), canvas)
            keys, values = op.Concat(past.key, key, axis=2), op.Concat(past.value, value, axis=2)
            attended = op.Attention(query, keys, values, canvas.mask, is_causal=0)
            merged = op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), [-1, self.config.hidden_size])
            return self.matrices[f"{name}.o_proj"](Activations(merged)), KeyValue(key, value)

    def _mlp(self, name: str, x: Activations) -> Value:
        op = self.op
        with op.block(name):
            gate = self.matrices[f"{name}.gate_proj"](x)
            activated = op.Mul(gate, op.Sigmoid(gate))
            up = self.matrices[f"{name}.up_proj"](x)
            return self.matrices[f"{name}.down_proj"](Activations(op.Mul(activated, up)))

    def _norm(self, name: str, hidden: Value) -> Value:
        op = self.op
        with op.block(name):
            return op.RMSNormalization(hidden, op.weight(f"{name}.weight"), axis=-1, epsilon=self.config.rms_norm_eps)

    def _split(self, projected: Value, canvas: Canvas) -> Value:
        """[batch * active, heads * head_dim] → [batch, heads, active, head_dim]"""
        return self.op.Transpose(self.op.Reshape(projected, canvas.heads), perm=[0, 2, 1, 3])

    def _rotate(self, heads: Value, canvas: Canvas) -> Value:
        """Rotary position embedding, pairs (i, i + head_dim / 2), computed in fp32."""
        return self.op.Cast(self.op.RotaryEmbedding(heads, canvas.cos, canvas.sin, interleaved=0), self.dtype)

    def _lay_out(self) -> Canvas:
        """Angles are computed once a pass from the positions, so that no table bounds the context."""
        op, position_ids, key_mask = self.op, self.op.input("position_ids"), self.op.input("key_mask")
        positions = op.Cast(op.Unsqueeze(position_ids, [-1]), "float32")
        angles = op.Mul(positions, op.constant(rotary_frequencies(self.config)))
        batch, active = op.Shape(position_ids, start=0, end=1), op.Shape(position_ids, start=1, end=2)
        keys = op.Shape(key_mask, start=1, end=2)
        # the Attention operator wants the row dimension spelled out
        mask = op.Expand(op.Unsqueeze(key_mask, [1, 2]), op.Concat(batch, [1], active, keys, axis=0))
        heads = op.Concat(batch, active, [-1, self.config.head_dim], axis=0)
        return Canvas(op.Cos(angles), op.Sin(angles), mask, heads)


def rotary_frequencies(config: ModelConfig) -> FloatArray:
    """theta ^ (-2 i / head_dim) [head_dim / 2]: in decimals, since powers of floats differ between C libraries."""
    context = Context(prec=40)
    theta, pairs = Decimal(config.rope_theta), range(config.head_dim // 2)
    exponents = [context.divide(Decimal(-2 * pair), Decimal(config.head_dim)) for pair in pairs]
    return np.array([float(context.power(theta, exponent)) for exponent in exponents], "<f4")

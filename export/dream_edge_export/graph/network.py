"""The layers of Dream: Qwen2.5 with full attention, over active positions and cached keys and values.

Shapes: hidden [batch, active, hidden]; heads [batch, heads, active, head_dim].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import onnx_ir as ir
from onnxscript import nn

from dream_edge_runtime.config import ModelConfig
from dream_edge_runtime.recipe import Recipe, WeightFormat

from .linear import Activations, embedding, linear


class KeyValue(NamedTuple):
    """Rotated keys and values [batch, kv_heads, positions, head_dim]."""

    key: ir.Value
    value: ir.Value


class Rotary(NamedTuple):
    """Cosines and sines [batch, active, head_dim / 2] of the active positions."""

    cos: ir.Value
    sin: ir.Value


class Decoder(nn.Module):
    """Embedding and layers; the final norm is applied to the asked rows only, so it lives beside it."""

    def __init__(self, config: ModelConfig, recipe: Recipe) -> None:
        super().__init__("model")
        self.config = config
        self.embed_tokens = embedding(recipe.embedding, config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config, recipe.body) for _ in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config)

    def forward(
        self,
        op: Any,
        input_ids: ir.Value,
        position_ids: ir.Value,
        key_mask: ir.Value,
        past: list[KeyValue],
        logit_rows: ir.Value,
    ) -> tuple[ir.Value, list[KeyValue]]:
        """Normalised hidden states [rows, hidden] of the asked rows; keys and values of the active positions."""
        hidden = self.embed_tokens(op, input_ids)
        rotary = rotary_angles(op, position_ids, self.config)
        mask = broadcast_key_mask(op, key_mask, input_ids)
        present = []
        for layer, cached in zip(self.layers, past, strict=True):
            hidden, computed = layer(op, hidden, rotary, cached, mask)
            present.append(computed)
        flat = op.Reshape(hidden, [-1, self.config.hidden_size])
        return self.norm(op, op.Gather(flat, logit_rows, axis=0)), present


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, weights: WeightFormat) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config)
        self.self_attn = Attention(config, weights)
        self.post_attention_layernorm = RMSNorm(config)
        self.mlp = MLP(config, weights)

    def forward(
        self, op: Any, hidden: ir.Value, rotary: Rotary, past: KeyValue, mask: ir.Value
    ) -> tuple[ir.Value, KeyValue]:
        attended, present = self.self_attn(op, Activations(self.input_layernorm(op, hidden)), rotary, past, mask)
        hidden = op.Add(hidden, attended)
        return op.Add(hidden, self.mlp(op, Activations(self.post_attention_layernorm(op, hidden)))), present


class Attention(nn.Module):
    """Bidirectional grouped-query attention over cached and active keys; their order does not matter."""

    def __init__(self, config: ModelConfig, weights: WeightFormat) -> None:
        super().__init__()
        self.config = config
        self.q_proj = linear(weights, config.hidden_size, config.hidden_size, bias=True)
        self.k_proj = linear(weights, config.kv_size, config.hidden_size, bias=True)
        self.v_proj = linear(weights, config.kv_size, config.hidden_size, bias=True)
        self.o_proj = linear(weights, config.hidden_size, config.hidden_size)

    def forward(
        self, op: Any, x: Activations, rotary: Rotary, past: KeyValue, mask: ir.Value
    ) -> tuple[ir.Value, KeyValue]:
        query = rotate(op, self._heads(op, self.q_proj(op, x)), rotary)
        present = KeyValue(rotate(op, self._heads(op, self.k_proj(op, x)), rotary), self._heads(op, self.v_proj(op, x)))
        attended = op.Attention(
            query,
            op.Concat(past.key, present.key, axis=2),
            op.Concat(past.value, present.value, axis=2),
            mask,
            is_causal=0,
        )
        merged = op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), [0, 0, self.config.hidden_size])
        return self.o_proj(op, Activations(merged)), present

    def _heads(self, op: Any, projected: ir.Value) -> ir.Value:
        return op.Transpose(op.Reshape(projected, [0, 0, -1, self.config.head_dim]), perm=[0, 2, 1, 3])


class MLP(nn.Module):
    def __init__(self, config: ModelConfig, weights: WeightFormat) -> None:
        super().__init__()
        self.gate_proj = linear(weights, config.intermediate_size, config.hidden_size)
        self.up_proj = linear(weights, config.intermediate_size, config.hidden_size)
        self.down_proj = linear(weights, config.hidden_size, config.intermediate_size)

    def forward(self, op: Any, x: Activations) -> ir.Value:
        gate = self.gate_proj(op, x)
        activated = op.Mul(gate, op.Sigmoid(gate))
        return self.down_proj(op, Activations(op.Mul(activated, self.up_proj(op, x))))


class RMSNorm(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.epsilon = config.rms_norm_eps
        self.weight = nn.Parameter([config.hidden_size])

    def forward(self, op: Any, hidden: ir.Value) -> ir.Value:
        return op.RMSNormalization(hidden, self.weight, axis=-1, epsilon=self.epsilon)


def rotary_angles(op: Any, position_ids: ir.Value, config: ModelConfig) -> Rotary:
    """Computed once a pass from the positions, so that no table bounds the context."""
    exponents = [-2 * pair / config.head_dim for pair in range(config.head_dim // 2)]
    frequencies = op.Constant(value=ir.tensor([config.rope_theta**e for e in exponents], dtype=ir.DataType.FLOAT))
    angles = op.Mul(op.Cast(op.Unsqueeze(position_ids, [-1]), to=ir.DataType.FLOAT), frequencies)
    return Rotary(op.Cos(angles), op.Sin(angles))


def rotate(op: Any, heads: ir.Value, rotary: Rotary) -> ir.Value:
    """Rotary position embedding, pairs (i, i + head_dim / 2)."""
    return op.RotaryEmbedding(heads, rotary.cos, rotary.sin, interleaved=0)


def broadcast_key_mask(op: Any, key_mask: ir.Value, input_ids: ir.Value) -> ir.Value:
    """[batch, keys] → [batch, 1, active, keys], the shape that the Attention operator takes."""
    batch, active = op.Shape(input_ids, start=0, end=1), op.Shape(input_ids, start=1, end=2)
    keys = op.Shape(key_mask, start=1, end=2)
    return op.Expand(op.Unsqueeze(key_mask, [1, 2]), op.Concat(batch, [1], active, keys, axis=0))

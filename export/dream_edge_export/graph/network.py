"""The layers of Dream: Qwen2.5 with full attention, over active positions and cached keys and values.

Tokens of all sequences are one dimension, [batch * active, ...], but inside attention, where heads are
[batch, heads, active, head_dim].

The stream of hidden states, the norms and the rotation of heads are fp32 on every target: Qwen2's stream holds values
that fp16 would round to multiples of 8. What enters a matrix product or attention has the activations' type.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import onnx_ir as ir
from onnxscript import nn

from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Formats

from .linear import Activations, as_type, embedding, linear


class KeyValue(NamedTuple):
    """Rotated keys and values [batch, kv_heads, positions, head_dim]."""

    key: ir.Value
    value: ir.Value


class Layout(NamedTuple):
    """What all layers of a pass share about the active positions."""

    cos: ir.Value
    sin: ir.Value
    """Rotary angles' cosines and sines [batch, active, head_dim / 2]."""
    mask: ir.Value
    """bool [batch, 1, active, keys]; false = not attended to."""
    heads: ir.Value
    """The shape that splits projected tokens into heads: [batch, active, -1, head_dim]."""
    activation: ir.DataType
    """The type of what enters a matrix product or attention."""


class Decoder(nn.Module):
    """Embedding, layers and the final norm, which only the asked rows go through."""

    def __init__(self, config: ModelConfig, formats: Formats, activation: ir.DataType) -> None:
        super().__init__("model")
        self.config, self.activation = config, activation
        self.embed_tokens = embedding(formats.embedding, config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config, formats, index) for index in range(config.num_hidden_layers)])
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
        """Normalised hidden states [rows, hidden], fp32, of the asked rows; keys and values of the active positions."""
        hidden = self.embed_tokens(op, op.Reshape(input_ids, [-1]))
        layout = lay_out(op, position_ids, key_mask, self.config, self.activation)
        present = []
        for layer, cached in zip(self.layers, past, strict=True):
            hidden, computed = layer(op, hidden, layout, cached)
            present.append(computed)
        return self.norm(op, op.Gather(hidden, logit_rows, axis=0)), present


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, formats: Formats, index: int) -> None:
        super().__init__()
        name = f"model.layers.{index}"
        self.input_layernorm = RMSNorm(config)
        self.self_attn = Attention(config, formats, f"{name}.self_attn")
        self.post_attention_layernorm = RMSNorm(config)
        self.mlp = MLP(config, formats, f"{name}.mlp")

    def forward(self, op: Any, hidden: ir.Value, layout: Layout, past: KeyValue) -> tuple[ir.Value, KeyValue]:
        normed = as_type(op, self.input_layernorm(op, hidden), layout.activation)
        attended, present = self.self_attn(op, Activations(normed), layout, past)
        hidden = op.Add(hidden, as_type(op, attended, ir.DataType.FLOAT))
        normed = as_type(op, self.post_attention_layernorm(op, hidden), layout.activation)
        projected = self.mlp(op, Activations(normed))
        return op.Add(hidden, as_type(op, projected, ir.DataType.FLOAT)), present


class Attention(nn.Module):
    """Bidirectional grouped-query attention over cached and active keys; their order does not matter."""

    def __init__(self, config: ModelConfig, formats: Formats, name: str) -> None:
        super().__init__()
        hidden, kv = config.hidden_size, config.kv_size
        self.hidden_size = hidden
        self.q_proj = linear(formats.of(f"{name}.q_proj"), hidden, hidden, bias=True)
        self.k_proj = linear(formats.of(f"{name}.k_proj"), kv, hidden, bias=True)
        self.v_proj = linear(formats.of(f"{name}.v_proj"), kv, hidden, bias=True)
        self.o_proj = linear(formats.of(f"{name}.o_proj"), hidden, hidden)

    def forward(self, op: Any, x: Activations, layout: Layout, past: KeyValue) -> tuple[ir.Value, KeyValue]:
        query = rotate(op, split_heads(op, self.q_proj(op, x), layout), layout)
        present = KeyValue(
            rotate(op, split_heads(op, self.k_proj(op, x), layout), layout),
            split_heads(op, as_type(op, self.v_proj(op, x), layout.activation), layout),
        )
        attended = op.Attention(
            query,
            op.Concat(past.key, present.key, axis=2),
            op.Concat(past.value, present.value, axis=2),
            layout.mask,
            is_causal=0,
        )
        merged = op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), [-1, self.hidden_size])
        return self.o_proj(op, Activations(merged)), present


class MLP(nn.Module):
    def __init__(self, config: ModelConfig, formats: Formats, name: str) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = linear(formats.of(f"{name}.gate_proj"), inner, hidden)
        self.up_proj = linear(formats.of(f"{name}.up_proj"), inner, hidden)
        self.down_proj = linear(formats.of(f"{name}.down_proj"), hidden, inner)

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


def lay_out(
    op: Any, position_ids: ir.Value, key_mask: ir.Value, config: ModelConfig, activation: ir.DataType
) -> Layout:
    """Angles are computed once a pass from the positions, so that no table bounds the context."""
    exponents = [-2 * pair / config.head_dim for pair in range(config.head_dim // 2)]
    frequencies = op.Constant(value=ir.tensor([config.rope_theta**e for e in exponents], dtype=ir.DataType.FLOAT))
    angles = op.Mul(op.Cast(op.Unsqueeze(position_ids, [-1]), to=ir.DataType.FLOAT), frequencies)
    batch, active = op.Shape(position_ids, start=0, end=1), op.Shape(position_ids, start=1, end=2)
    keys = op.Shape(key_mask, start=1, end=2)
    # the Attention operator wants the row dimension spelled out
    mask = op.Expand(op.Unsqueeze(key_mask, [1, 2]), op.Concat(batch, [1], active, keys, axis=0))
    heads = op.Concat(batch, active, [-1, config.head_dim], axis=0)
    return Layout(op.Cos(angles), op.Sin(angles), mask, heads, activation)


def split_heads(op: Any, projected: ir.Value, layout: Layout) -> ir.Value:
    """[batch * active, heads * head_dim] → [batch, heads, active, head_dim]"""
    return op.Transpose(op.Reshape(projected, layout.heads), perm=[0, 2, 1, 3])


def rotate(op: Any, heads: ir.Value, layout: Layout) -> ir.Value:
    """Rotary position embedding, pairs (i, i + head_dim / 2), computed in fp32."""
    return as_type(op, op.RotaryEmbedding(heads, layout.cos, layout.sin, interleaved=0), layout.activation)

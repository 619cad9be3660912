"""The layers of Dream's family: Qwen2.5 and Qwen3, over active positions and cached keys and values.

Tokens of all sequences are one dimension, [batch * active, ...], but inside attention, where they are
[batch, active, ...].

The stream of hidden states, the norms and the rotation of heads are fp32 on every target: Qwen2's stream holds values
that fp16 would round to multiples of 8. What enters a matrix product or attention has the activations' type.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from functools import partial
from typing import NamedTuple

import numpy as np

from ..arrays import FloatArray
from ..format.layout import join_names
from ..format.model_config import ModelConfig
from ..format.recipe import Recipe, Target
from ..format.tensors import EMBEDDING, READERS, layer_name, matrix_shapes
from .linear import Activations, Linear, look_up
from .op import Op, Value
from .signature import activation_dtype

HEADROOM: dict[Target, float] = {"cpu": 1.0, "cuda": 16.0}
"""On CUDA the stream of hidden states, and all that is added to it, is a sixteenth of what the network says.

fp16 ends at 65504, and what down_proj gives in Qwen2.5 comes within a factor of 6 of that. To divide by a power of two
rounds nothing: values are divided as they are turned, gate and up each by 4 as their input is.
"""


class KeyValue(NamedTuple):
    """Rotated keys and values [batch, kv_heads, positions, head_dim]."""

    key: Value
    value: Value


class Canvas(NamedTuple):
    """What all layers of a pass share about the active positions."""

    cos: Value
    sin: Value
    """Of the angle by which each head is turned [batch * active, heads, head_dim / 2]; values' are only scaled."""
    mask: Value
    """[batch, 1, active, keys], added to scores: 0, or the least number for what is not attended to."""
    tokens: Value
    """The shape that lays sequences apart: [batch, active, -1]."""


class Decoder:
    """Records embedding, layers and the final norm, which only the asked rows go through, in `op`."""

    def __init__(self, op: Op, config: ModelConfig, recipe: Recipe, target: Target) -> None:
        self.op, self.config, self.target, self.joined = op, config, target, recipe.joined
        self.formats, self.shapes, self.headroom = recipe.targets[target], matrix_shapes(config), HEADROOM[target]
        self.dtype = activation_dtype(target)  # of what enters a matrix product or attention

    def record(self) -> tuple[Value, list[KeyValue]]:
        """Normalised hidden states [rows, hidden], fp32, of the asked rows; keys and values of the active positions."""
        op = self.op
        looked_up = look_up(op, op.Reshape(op.input("input_ids"), [-1]), EMBEDDING, self.formats.embedding)
        hidden = op.scale(looked_up, 1 / self.headroom)
        canvas, present, product = self._lay_out(), [], None
        for index in range(self.config.num_hidden_layers):
            name, past = layer_name(index), [op.input(f"past_key_values.{index}.{part}") for part in KeyValue._fields]
            hidden, normed = self._add_norm(f"{name}.input_layernorm", hidden, product)
            product, computed = self._attention(name, Activations(op.Cast(normed, self.dtype)), canvas, KeyValue(*past))
            present.append(computed)
            hidden, normed = self._add_norm(f"{name}.post_attention_layernorm", hidden, product, self.headroom**-0.5)
            product = self._mlp(name, Activations(op.Cast(normed, self.dtype)))
        assert product is not None
        hidden, product = (op.Gather(value, op.input("logit_rows"), axis=0) for value in (hidden, product))
        return self._add_norm("model.norm", hidden, product)[1], present

    def multiply(self, names: Sequence[str], x: Activations) -> list[Value]:
        """`x` times each of these matrices, [tokens, outputs]; times those that are multiplied as one, one result."""
        products = []
        for joined in self.formats.products(names, self.joined):
            outputs, inputs = sum(self.shapes[name][0] for name in joined), self.shapes[joined[0]][1]
            name, weights = join_names(joined), self.formats.of(joined[0])
            products.append(Linear(self.op, name, weights, outputs, inputs, f"{name}.bias" in self.op.weights)(x))
        return products

    def _project(self, layer: str, stage: str, x: Activations) -> list[Value]:
        return self.multiply([f"{layer}.{name}" for name in READERS[stage]], x)

    def _attention(self, layer: str, x: Activations, canvas: Canvas, past: KeyValue) -> tuple[Value, KeyValue]:
        """Grouped-query attention over cached and active keys; their order does not matter."""
        op, config = self.op, self.config
        with op.block(f"{layer}.self_attn"):
            heads = [config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads]
            widths = [count * config.head_dim for count in heads]
            products = [op.Cast(product, "float32") for product in self._project(layer, "qkv", x)]
            if config.qk_norm:
                if len(products) < len(widths):
                    products = op.Split(op.join(products), widths, axis=-1)
                products = [*map(partial(self._norm_heads, layer), ("q_norm", "k_norm"), products), products[2]]
            joined = op.join(products)
            # rotary position embedding, pairs (i, i + head_dim / 2), in fp32; tokens are its batch, heads its positions
            apart = op.Reshape(joined, [-1, sum(heads), config.head_dim])
            turned = op.Cast(op.RotaryEmbedding(apart, canvas.cos, canvas.sin, num_heads=1), self.dtype)
            query, key, value = op.Split(op.Reshape(turned, canvas.tokens), widths, axis=-1)
            # appends keys and values to those of the past; that it also gives out what comes of it, nobody needs
            counts = {"q_num_heads": config.num_attention_heads, "kv_num_heads": config.num_key_value_heads}
            attended = op.Attention(query, key, value, canvas.mask, *past, outputs=3, is_causal=0, **counts)
            (product,) = self._project(layer, "o", Activations(op.Reshape(attended, [-1, config.query_size])))
            by_head = (op.Reshape(active, [0, 0, -1, config.head_dim]) for active in (key, value))
            return op.Cast(product, "float32"), KeyValue(*(op.Transpose(each, perm=[0, 2, 1, 3]) for each in by_head))

    def _norm_heads(self, layer: str, name: str, product: Value) -> Value:
        """Each head of queries or keys [tokens, heads * head_dim] over its own size, as before."""
        op, config = self.op, self.config
        heads, gamma = op.Reshape(product, [0, -1, config.head_dim]), op.weight(f"{layer}.self_attn.{name}.weight")
        return op.Reshape(op.RMSNormalization(heads, gamma, axis=-1, epsilon=config.rms_norm_eps), op.Shape(product))

    def _mlp(self, layer: str, x: Activations) -> Value:
        """down(silu(gate) · up); QuickGelu(x, a) is x · sigmoid(a x)."""
        op, inner = self.op, self.config.intermediate_size
        with op.block(f"{layer}.mlp"):
            products = self._project(layer, "gate_up", x)
            gate, up = products if len(products) > 1 else op.Split(products[0], [inner, inner], axis=-1)
            activated = op.Mul(op.QuickGelu(gate, alpha=self.headroom**0.5), up)
            (product,) = self._project(layer, "down", Activations(activated))
            return op.Cast(product, "float32")

    def _add_norm(self, name: str, hidden: Value, product: Value | None, scale: float = 1.0) -> tuple[Value, Value]:
        """`hidden` with `product` added, and the norm of that, `scale` times as large."""
        op, epsilon = self.op, self.config.rms_norm_eps / self.headroom**2
        with op.block(name):
            gamma = op.scale(op.weight(f"{name}.weight"), scale)  # computed when the graph is loaded
            if product is not None and self.target == "cuda":  # one kernel; the CPU's would sum in another order
                return op.AddNorm(hidden, product, gamma, epsilon)
            hidden = hidden if product is None else op.Add(hidden, product)
            return hidden, op.RMSNormalization(hidden, gamma, axis=-1, epsilon=epsilon)

    def _lay_out(self) -> Canvas:
        """Angles are computed once a pass from the positions, so that no table bounds the context."""
        op, position_ids, attended = self.op, self.op.input("position_ids"), self.op.input("attention_mask")
        config = self.config
        positions = op.Cast(op.Reshape(position_ids, [-1, 1, 1]), "float32")
        angles = op.Mul(positions, op.constant(rotary_frequencies(config)))
        turned = config.num_attention_heads + config.num_key_value_heads
        turns = op.constant(np.arange(turned + config.num_key_value_heads)[:, None] < turned)
        batch, active = op.Shape(position_ids, start=0, end=1), op.Shape(position_ids, start=1, end=2)
        keys = op.Shape(attended, start=2, end=3)
        least = float(np.finfo(self.dtype).min)
        bias = op.Cast(op.Where(op.Unsqueeze(attended, [1]), 0.0, least), self.dtype)
        # the Attention operator wants the row dimension spelled out
        mask = op.Expand(bias, op.Concat(batch, [1], active, keys, axis=0))
        tokens = op.Concat(batch, active, [-1], axis=0)
        return Canvas(
            op.Where(turns, op.Cos(angles), 1 / self.headroom), op.Where(turns, op.Sin(angles), 0.0), mask, tokens
        )


def rotary_frequencies(config: ModelConfig) -> FloatArray:
    """theta ^ (-2 i / head_dim) [head_dim / 2]: in decimals, since powers of floats differ between C libraries."""
    context = Context(prec=40)
    theta, pairs = Decimal(config.rope_theta), range(config.head_dim // 2)
    exponents = [context.divide(Decimal(-2 * pair), Decimal(config.head_dim)) for pair in pairs]
    return np.array([float(context.power(theta, exponent)) for exponent in exponents], "<f4")

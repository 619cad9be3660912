"""The graph's inputs and outputs: what every artifact promises to whoever runs it, in any language."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .config import ModelConfig
from .recipe import Recipe, WeightFormat, matrix_shapes, vector_sizes

OPSET = 23
PRODUCER = "dream-edge"
TOP_K = 64


class TensorSpec(NamedTuple):
    """Name, NumPy dtype name and shape; a named dimension is free."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


def top_k(config: ModelConfig) -> int:
    """How many of the best tokens the reduced outputs hold."""
    return min(TOP_K, config.vocab_size)


def input_specs(config: ModelConfig) -> list[TensorSpec]:
    """Inputs in order.

    `past_key_values` hold rotated keys and values of the cached positions (their number may be 0). `logit_rows`, at
    least one, index the flattened [batch * active] positions. `temperature` divides the logits of the reduced outputs;
    0 counts as 1. `key_mask` covers the cached keys first, then the active ones; false = never attended to.
    """
    return [
        TensorSpec("input_ids", "int64", ("batch", "active")),
        TensorSpec("position_ids", "int64", ("batch", "active")),
        TensorSpec("key_mask", "bool", ("batch", "keys")),
        TensorSpec("logit_rows", "int64", ("rows",)),
        TensorSpec("temperature", "float32", ()),
        *_key_values("past", "cached", config),
    ]


def output_specs(config: ModelConfig) -> list[TensorSpec]:
    """Outputs in order.

    `logits` are unscaled. The others are taken after division by the temperature, over the full vocabulary:
    `top_logits`, `top_ids` and `top_probs` (softmax) of the k best, best first, ties by lowest id; `log_normalizer` =
    log sum exp; `neg_entropy` = sum p log(p + 1e-10). `present_key_values` are those of the active positions only.
    """
    k = top_k(config)
    return [
        TensorSpec("logits", "float32", ("rows", config.vocab_size)),
        TensorSpec("top_logits", "float32", ("rows", k)),
        TensorSpec("top_ids", "int64", ("rows", k)),
        TensorSpec("top_probs", "float32", ("rows", k)),
        TensorSpec("log_normalizer", "float32", ("rows",)),
        TensorSpec("neg_entropy", "float32", ("rows",)),
        *_key_values("present", "active", config),
    ]


def _key_values(kind: str, positions: str, config: ModelConfig) -> Iterator[TensorSpec]:
    for index in range(config.num_hidden_layers):
        for part in ("key", "value"):
            name = f"{kind}_key_values.{index}.{part}"
            yield TensorSpec(name, "float32", ("batch", config.num_key_value_heads, positions, config.head_dim))


def weight_specs(config: ModelConfig, recipe: Recipe) -> dict[str, TensorSpec]:
    """Every weight of the graph by name: the matrices as the recipe stores them, the biases and norms in fp32."""
    specs: list[TensorSpec] = []
    for name, (outputs, inputs) in matrix_shapes(config).items():
        weights = recipe.format_of(name)
        if name == "model.embed_tokens":
            specs += _table_specs(name, outputs, inputs, weights)
        else:
            specs += _matrix_specs(name, outputs, inputs, weights)
    specs += [TensorSpec(name, "float32", (size,)) for name, size in vector_sizes(config).items()]
    return {spec.name: spec for spec in specs}


def _matrix_specs(name: str, outputs: int, inputs: int, weights: WeightFormat) -> Iterator[TensorSpec]:
    if weights.kind == "float":
        yield TensorSpec(f"{name}.weight", "float32", (inputs, outputs))
    elif weights.kind == "row":
        yield TensorSpec(f"{name}.weight", "int8", (inputs, outputs))
        yield TensorSpec(f"{name}.scales", "float32", (outputs,))
    else:
        blocks = weights.blocks(inputs)
        yield TensorSpec(f"{name}.weight", "uint8", (outputs, blocks, weights.block_size * weights.bits // 8))
        yield TensorSpec(f"{name}.scales", "float16", (outputs, blocks))
        if not weights.symmetric:
            yield TensorSpec(f"{name}.zero_points", "uint8", (outputs, -(-blocks * weights.bits // 8)))


def _table_specs(name: str, rows: int, width: int, weights: WeightFormat) -> Iterator[TensorSpec]:
    if weights.kind == "float":
        yield TensorSpec(f"{name}.weight", "float32", (rows, width))
    else:
        yield TensorSpec(f"{name}.weight", "uint8", (rows, width * weights.bits // 8))
        yield TensorSpec(f"{name}.scales", "float16", (rows, weights.blocks(width)))

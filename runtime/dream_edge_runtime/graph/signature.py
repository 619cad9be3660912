"""The graph's inputs and outputs: what every artifact promises to those who run it, in any language."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..format.layout import TensorSpec
from ..format.model_config import ModelConfig
from ..format.recipe import Target

TOP_K: dict[Target, int] = {"cpu": 64, "cuda": 32}
"""CUDA has a fast kernel for 32 at most, and it alone keeps ties in order."""

ACTIVATION_LEVELS = "activation_levels"
ACTIVATION_ZERO_POINT = "activation_zero_point"
"""Two constants of graphs with W8A8 products, fp32 [] and u8 []: the code of a row's largest magnitude, and of 0.

They are 127 and 128. A processor whose instruction adds two products u8 × s8 in 16 bits needs codes below 128, so that
no pair can overflow: there the runtime runs a graph with `SEVEN_BITS`.
"""
EIGHT_BITS = (127, 128)
SEVEN_BITS = (63, 64)


def rounding_constants(levels: int, zero_point: int) -> dict[str, NDArray[Any]]:
    """The two constants by name."""
    return {ACTIVATION_LEVELS: np.array(levels, "<f4"), ACTIVATION_ZERO_POINT: np.array(zero_point, np.uint8)}


def top_k(config: ModelConfig, target: Target) -> int:
    """How many of the best tokens the reduced outputs hold."""
    return min(TOP_K[target], config.vocab_size)


def activation_dtype(target: Target) -> str:
    """The type of keys, values and the inputs of matrix products."""
    return "float16" if target == "cuda" else "float32"


def input_specs(config: ModelConfig, target: Target) -> list[TensorSpec]:
    """Inputs in order.

    `past_key_values` hold rotated keys and values of the cached positions (their number may be 0). `logit_rows`, at
    least one, index the flattened [batch * active] positions. `temperature` divides the logits of the reduced outputs;
    0 counts as 1. `attention_mask` says which keys each query attends to, the cached ones first, then the active ones;
    `queries` is 1, where they are the same for all, or `active`.
    """
    return [
        TensorSpec("input_ids", "int64", ("batch", "active")),
        TensorSpec("position_ids", "int64", ("batch", "active")),
        TensorSpec("attention_mask", "bool", ("batch", "queries", "keys")),
        TensorSpec("logit_rows", "int64", ("rows",)),
        TensorSpec("temperature", "float32", ()),
        *_key_values("past", "cached", config, target),
    ]


def output_specs(config: ModelConfig, target: Target) -> list[TensorSpec]:
    """Outputs in order.

    `logits` are unscaled. The others are taken after division by the temperature, over the full vocabulary:
    `top_logits`, `top_ids` and `top_probs` (softmax) of the k best, best first, ties by lowest id; `log_normalizer` =
    log sum exp; `neg_entropy` = sum p log(p + 1e-10). `present_key_values` are those of the active positions only.
    """
    k = top_k(config, target)
    return [
        TensorSpec("logits", "float32", ("rows", config.vocab_size)),
        TensorSpec("top_logits", "float32", ("rows", k)),
        TensorSpec("top_ids", "int64", ("rows", k)),
        TensorSpec("top_probs", "float32", ("rows", k)),
        TensorSpec("log_normalizer", "float32", ("rows",)),
        TensorSpec("neg_entropy", "float32", ("rows",)),
        *_key_values("present", "active", config, target),
    ]


def key_value_names(kind: str, config: ModelConfig) -> list[str]:
    """The graph's inputs ("past") or outputs ("present"), in order: keys and values of each layer in turn."""
    layers = range(config.num_hidden_layers)
    return [f"{kind}_key_values.{index}.{part}" for index in layers for part in ("key", "value")]


def _key_values(kind: str, positions: str, config: ModelConfig, target: Target) -> Iterator[TensorSpec]:
    shape = ("batch", config.num_key_value_heads, positions, config.head_dim)
    return (TensorSpec(name, activation_dtype(target), shape) for name in key_value_names(kind, config))

"""What a calibration takes, known before it starts."""

from __future__ import annotations

from dream_edge_runtime.config import ModelConfig
from dream_edge_runtime.recipe import Recipe

from .inputs import TOKENS_AT_ONCE

_STATES = 8  # before, within (two places) and after a layer; of each stream
_FLOAT = 4


def work_of_layer(config: ModelConfig, tokens: int) -> float:
    """Multiply-adds, as `LayerCalibration` counts them: not all of them, but of every layer alike."""
    hidden, kv, inner = config.hidden_size, config.kv_size, config.intermediate_size
    weights = 2 * hidden * (hidden + kv) + 3 * hidden * inner
    moments = 3 * 2 * hidden * hidden + inner * (inner + hidden)
    rounding = hidden * (2 * hidden * (hidden + kv) + 2 * hidden * inner) + inner * inner * hidden
    return tokens * (weights + moments) + rounding


def disk(config: ModelConfig, recipe: Recipe, tokens: int) -> int:
    """The most bytes that a calibration has on disk: all layers' weights, and hidden states."""
    return recipe.stored_bytes(config) + _STATES * _FLOAT * tokens * config.hidden_size


def memory(config: ModelConfig) -> int:
    """The most bytes that it holds, libraries not counted."""
    hidden, kv, inner = config.hidden_size, config.kv_size, config.intermediate_size
    attention, matrix = 2 * hidden * (hidden + kv), hidden * inner
    activations = 8 * TOKENS_AT_ONCE * inner
    # gate and up of both networks and down, with the second moments of down's inputs and their factor
    down = 5 * matrix + 2 * inner * inner + 4 * matrix
    return _FLOAT * (attention + max(6 * matrix, down) + activations)

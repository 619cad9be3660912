"""Estimates of the work, disk and memory of a calibration, before it starts."""

from __future__ import annotations

import time

import torch

from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Recipe

from ...reference.layerwise import TOKENS_AT_ONCE

_STATES = 8  # before, within (two places) and after a layer; of each stream
_FLOAT = 4


def count_work_per_token(config: ModelConfig) -> dict[str, int]:
    """Multiply-adds of a layer for each token, by what they are done for: see `LayerCalibration`."""
    hidden, query, inner = config.hidden_size, config.query_size, config.intermediate_size
    qkv, output, projection = hidden * (query + 2 * config.kv_size), query * hidden, hidden * inner
    moments = 2 * hidden * hidden
    return {
        "observe": qkv + output + 3 * projection,
        "qkv": moments,
        "o": 2 * qkv + output + query * (query + hidden) + output,
        "gate_up": moments,
        "down": 4 * projection + projection + inner * (inner + hidden) + 3 * projection,
    }


def count_rounding_work(config: ModelConfig) -> dict[str, int]:
    """Multiply-adds of factoring the moments, and of shifting and rounding the matrices, by stage."""
    hidden, query, inner = config.hidden_size, config.query_size, config.intermediate_size
    outputs = {"qkv": (query + 2 * config.kv_size, hidden), "o": (hidden, query), "gate_up": (2 * inner, hidden)}
    outputs["down"] = (hidden, inner)
    return {stage: width**3 // 6 + 3 * count * width**2 // 2 for stage, (count, width) in outputs.items()}


def count_layer_work(config: ModelConfig, tokens: int) -> int:
    """Multiply-adds of calibrating a layer on `tokens`."""
    return tokens * sum(count_work_per_token(config).values()) + sum(count_rounding_work(config).values())


def estimate_seconds(config: ModelConfig, tokens: int) -> float:
    """A rough guess, from one product of matrices that is computed here and now."""
    size, start = 1024, 0.0
    matrix = torch.rand(size, size)
    for _ in range(2):  # the first time wakes threads
        start = time.perf_counter()
        torch.mm(matrix, matrix)
    rate = size**3 / (time.perf_counter() - start)
    return config.num_hidden_layers * count_layer_work(config, tokens) / rate


def estimate_disk(config: ModelConfig, recipe: Recipe, tokens: int) -> int:
    """The most bytes that a calibration has on disk: all layers' weights, and hidden states."""
    return recipe.stored_bytes(config) + _STATES * _FLOAT * tokens * config.hidden_size


def estimate_memory(config: ModelConfig) -> int:
    """The most bytes that it holds, libraries not counted."""
    hidden, inner = config.hidden_size, config.intermediate_size
    attention, matrix = 2 * hidden * (config.query_size + config.kv_size), hidden * inner
    activations = 8 * TOKENS_AT_ONCE * inner
    # gate and up of both networks, down and its drift, while the second moments of its inputs are summed; then these
    # and their factor, with one network's gate and up, and copies while they are solved for
    summing, factoring = 6 * matrix + inner * inner + activations, 9 * matrix + 2 * inner * inner
    return _FLOAT * (attention + max(14 * matrix, summing, factoring))

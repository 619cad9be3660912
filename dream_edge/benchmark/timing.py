"""Passes of a network, timed, and how many operations they take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.tensors import EMBEDDING, matrix_shapes
from dream_edge_runtime.inference.network import Network


def time_full_pass(network: Network, tokens: int, repeats: int, done: Callable[[], None] = lambda: None) -> float:
    """Median seconds of a pass over `tokens` tokens that projects all of them.

    One more comes first, which does not count. `done` is called after each.
    """
    ids = _tokens(network, tokens)
    positions = np.arange(tokens)

    def run() -> None:
        network.forward(ids, positions[None], np.ones((1, tokens), bool), positions, 0.0, None)
        done()

    return _median(run, repeats)


def time_cached_pass(
    network: Network, canvas: int, block: int, repeats: int, done: Callable[[], None] = lambda: None
) -> float:
    """Median seconds of a pass over the `block` tokens in the middle of `canvas`, which projects all of them.

    The keys and values of the others are remembered from a full pass, which comes first. Otherwise as `time_full_pass`.
    """
    ids = _tokens(network, canvas)
    positions = np.arange(canvas)
    rows = network.forward(ids, positions[None], np.ones((1, canvas), bool), positions[:1], 0.0, None, keep=True)
    done()
    start = (canvas - block) // 2
    active = positions[start : start + block]
    remembered = np.ones(canvas, bool)
    remembered[active] = False
    key_mask = np.append(remembered, np.ones(block, bool))[None]

    def run() -> None:
        network.forward(ids[:, active], active[None], key_mask, np.arange(block), 0.0, None, past=rows.key_values)
        done()

    return _median(run, repeats)


def operations(config: ModelConfig, active: int, keys: int) -> int:
    """Multiplications and additions of a pass over `active` tokens that attend to `keys` and are all projected."""
    weights = sum(rows * columns for name, (rows, columns) in matrix_shapes(config).items() if name != EMBEDDING)
    attention = 2 * active * keys * config.hidden_size * config.num_hidden_layers
    return 2 * (active * weights + attention)


def _tokens(network: Network, count: int) -> IntArray:
    return np.random.default_rng(0).integers(0, network.config.vocab_size, (1, count))


def _median(run: Callable[[], None], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])

"""Passes of a network, timed, how many operations they take, and the most that ONNX Runtime reaches here."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.format.layout import TensorSpec
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.tensors import EMBEDDING, matrix_shapes
from dream_edge_runtime.graph.onnx_writer import write_onnx
from dream_edge_runtime.graph.op import Op
from dream_edge_runtime.host import default_threads
from dream_edge_runtime.inference.devices import import_onnxruntime
from dream_edge_runtime.inference.network import Network

ROWS = 256
SIZE = 4096
_RUNS = 6


def time_pass(
    network: Network,
    canvas: int,
    repeats: int,
    *,
    block: int | None = None,
    rows: int | None = None,
    done: Callable[[], None] = lambda: None,
) -> float:
    """Median seconds of a pass over `canvas` tokens, or over the `block` in their middle.

    All of it is projected, or the first `rows` tokens. One more pass comes first, which does not count. With `block`,
    the keys and values of the other tokens are remembered from a full pass before that. `done` is called after each.
    """
    ids = np.random.default_rng(0).integers(0, network.config.vocab_size, (1, canvas))
    positions = np.arange(canvas)
    active, mask, past = positions, np.ones((1, 1, canvas), bool), None
    if block is not None:
        past = network.forward(ids, positions[None], mask, positions[:1], 0.0, None, keep=True).key_values
        done()
        start = (canvas - block) // 2
        active = positions[start : start + block]
        mask = np.append(~np.isin(positions, active), np.ones(block, bool))[None, None]
    times, asked = [], np.arange(len(active) if rows is None else rows)
    for _ in range(repeats + 1):
        began = time.perf_counter()
        network.forward(ids[:, active], active[None], mask, asked, 0.0, None, past=past)
        times.append(time.perf_counter() - began)
        done()
    return statistics.median(times[1:])


def operations(config: ModelConfig, active: int, keys: int) -> int:
    """Multiplications and additions of a pass over `active` tokens that attend to `keys` and are all projected."""
    weights = sum(rows * columns for name, (rows, columns) in matrix_shapes(config).items() if name != EMBEDDING)
    attention = 2 * active * keys * config.hidden_size * config.num_hidden_layers
    return 2 * (active * weights + attention)


def gemm_peak(kind: str, *, size: int = SIZE, threads: int | None = None) -> float:
    """Operations a second of one large matrix product [256, size] × [size, size]; the best of several.

    Args:
        kind: "int8" (u8 × s8, MatMulIntegerToFloat) or "fp32" (MatMul).
        threads: None = one for each core that this process may use.
    """
    ort = import_onnxruntime()
    rng = np.random.default_rng(0)
    op = Op([TensorSpec("x", "uint8" if kind == "int8" else "float32", ("rows", size))])
    fed: NDArray[Any]
    if kind == "int8":
        # 7-bit activations: 8-bit ones are no faster, and overflow where the processor has no VNNI
        fed = rng.integers(0, 128, (ROWS, size), np.uint8)
        weight, zero = op.constant(rng.integers(-127, 128, (size, size), np.int8)), op.constant(np.array(64, np.uint8))
        op.outputs["y"] = op.MatMulIntegerToFloat(op.input("x"), weight, 1.0, 1.0, zero)
    else:
        fed = rng.standard_normal((ROWS, size), np.float32)
        op.outputs["y"] = op.MatMul(op.input("x"), op.constant(rng.standard_normal((size, size), np.float32)))
    model = write_onnx(op, [TensorSpec("y", "float32", ("rows", size))], name="peak")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    best = float("inf")
    for _ in range(_RUNS):
        start = time.perf_counter()
        session.run(None, {"x": fed})
        best = min(best, time.perf_counter() - start)
    return 2 * ROWS * size * size / best

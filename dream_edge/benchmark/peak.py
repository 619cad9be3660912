"""The most multiplications and additions a second that ONNX Runtime reaches here, found out by multiplying."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.format.layout import TensorSpec
from dream_edge_runtime.graph.onnx_writer import write_onnx
from dream_edge_runtime.graph.op import Op
from dream_edge_runtime.host import default_threads
from dream_edge_runtime.inference.devices import import_onnxruntime

ROWS = 256
SIZE = 4096
_RUNS = 6


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

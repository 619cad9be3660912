"""The most multiplications and additions a second that ONNX Runtime reaches here, found out by multiplying.

The graph of one matrix product is written byte by byte, in the wire format of protocol buffers, since the light install
has no library that could. Field numbers: onnx.proto3, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.cores import default_threads
from dream_edge_runtime.inference.devices import import_onnxruntime

ROWS = 256
SIZE = 4096
_RUNS = 6
_TYPES = {"float32": 1, "uint8": 2, "int8": 3}  # TensorProto.DataType


def gemm_peak(kind: str, *, size: int = SIZE, threads: int | None = None) -> float:
    """Operations a second of one large matrix product [256, size] × [size, size]; the best of several.

    Args:
        kind: "int8" (u8 × s8, MatMulIntegerToFloat) or "fp32" (MatMul).
        threads: None = one for each core that this process may use.
    """
    ort = import_onnxruntime()
    rng = np.random.default_rng(0)
    constants: dict[str, NDArray[Any]]
    if kind == "int8":
        # 7-bit activations: 8-bit ones are no faster, and overflow where the processor has no VNNI
        fed: NDArray[Any] = rng.integers(0, 128, (ROWS, size), np.uint8)
        one = np.array(1, np.float32)
        constants = {"w": rng.integers(-127, 128, (size, size), np.int8), "one": one, "zero": np.array(64, np.uint8)}
        node = _node("MatMulIntegerToFloat", ["x", "w", "one", "one", "zero"], "y", "com.microsoft")
    else:
        fed = rng.standard_normal((ROWS, size), np.float32)
        constants = {"w": rng.standard_normal((size, size), np.float32)}
        node = _node("MatMul", ["x", "w"], "y")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    session = ort.InferenceSession(_model(node, constants, fed), options, providers=["CPUExecutionProvider"])
    best = float("inf")
    for _ in range(_RUNS):
        start = time.perf_counter()
        session.run(None, {"x": fed})
        best = min(best, time.perf_counter() - start)
    return 2 * ROWS * size * size / best


def _model(node: bytes, constants: dict[str, NDArray[Any]], fed: NDArray[Any]) -> bytes:
    graph = [
        _field(1, node),
        _field(2, b"peak"),
        *(_field(5, _tensor(name, values)) for name, values in constants.items()),
        _field(11, _value("x", fed.dtype, fed.shape)),
        _field(12, _value("y", np.dtype(np.float32), fed.shape)),  # the weight is square
    ]
    opsets = (_field(1, domain) + _field(2, version) for domain, version in ((b"", 21), (b"com.microsoft", 1)))
    return b"".join([_field(1, 10), _field(7, b"".join(graph)), *(_field(8, opset) for opset in opsets)])


def _node(operator: str, inputs: Iterable[str], output: str, domain: str = "") -> bytes:
    named = b"".join(_field(1, name.encode()) for name in inputs)
    return named + _field(2, output.encode()) + _field(4, operator.encode()) + _field(7, domain.encode())


def _tensor(name: str, values: NDArray[Any]) -> bytes:
    dimensions = b"".join(_field(1, size) for size in values.shape)
    return dimensions + _field(2, _TYPES[values.dtype.name]) + _field(8, name.encode()) + _field(9, values.tobytes())


def _value(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    dimensions = b"".join(_field(1, _field(1, size)) for size in shape)
    tensor = _field(1, _TYPES[dtype.name]) + _field(2, dimensions)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, value: int | bytes) -> bytes:
    """A number (wire type 0), or bytes with their length before them (wire type 2)."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the eighth says that more follow."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])

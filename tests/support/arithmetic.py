"""The integer arithmetic of the quantized products, spelt out in NumPy: what the operators are held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.format.recipe import NF4_VALUES, WeightFormat

DoubleArray = NDArray[np.float64]


def dequantized(arrays: Mapping[str, NDArray[Any]], weights: WeightFormat, inputs: int) -> DoubleArray:
    """The matrix [out, in] that encoded parameters stand for, exactly."""
    if weights.kind == "float":
        return np.asarray(arrays["weight"].astype(np.float64))
    if weights.kind == "nf4":
        codes = np.stack([arrays["weight"] >> 4, arrays["weight"] & 15], axis=-1).reshape(-1, weights.block_size)
        values = np.array(NF4_VALUES, np.float32).astype(np.float64)[codes]
        return np.asarray((values * arrays["absmax"].astype(np.float64)[:, None]).reshape(-1, inputs))
    scales = arrays["scales"].astype(np.float64)
    if weights.kind == "row":
        by_output = arrays["weight"] if weights.table else arrays["weight"].T
        return np.asarray(by_output.astype(np.float64) * scales[:, None])
    codes = _codes(arrays["weight"], weights.bits)
    zero = np.full(scales.shape, 2.0 ** (weights.bits - 1))
    if "zero_points" in arrays:
        zero = _codes(arrays["zero_points"], weights.bits)[:, : scales.shape[1]]
    matrix = (codes.reshape(*scales.shape, -1) - zero[..., None]) * scales[..., None]
    return np.asarray(matrix.reshape(len(matrix), -1)[:, :inputs])


def _codes(packed: NDArray[Any], bits: int) -> DoubleArray:
    if bits == 8:
        return packed.astype(np.float64)
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1).astype(np.float64)


def block_rounded(x: FloatArray, block_size: int) -> DoubleArray:
    """Activations as MatMulNBits sees them at accuracy level 4.

    MLAS quantizes each row in blocks: scale = largest magnitude / 127, code = x · (127 / largest) rounded to the
    nearest even integer, all in fp32.
    """
    rows, inputs = x.shape
    blocks = -(-inputs // block_size)
    padded = np.pad(x, ((0, 0), (0, blocks * block_size - inputs))).reshape(rows, blocks, block_size)
    largest = np.abs(padded).max(axis=-1, keepdims=True)
    inverse = np.where(largest == 0, np.float32(0), np.float32(127) / np.where(largest == 0, np.float32(1), largest))
    rounded = np.rint(padded * inverse).astype(np.float64) * (largest / np.float32(127))
    return np.asarray(rounded.reshape(rows, -1)[:, :inputs])


def block_bound(x: FloatArray, matrix: DoubleArray, block_size: int) -> DoubleArray:
    """The most by which rounding activations in blocks can change x · matrixᵀ [rows, out].

    Every activation moves by at most half a step, (largest magnitude of its block / 127) / 2, so an output moves by at
    most Σ over blocks of largest / 254 · Σ |w|. The last factor leaves room for the fp32 arithmetic of the scale.
    """
    blocks = np.split(np.abs(x.astype(np.float64)), range(block_size, x.shape[1], block_size), axis=1)
    largest = [np.broadcast_to(block.max(axis=1, keepdims=True), block.shape) for block in blocks]
    return np.asarray(np.concatenate(largest, axis=1) / 254 @ np.abs(matrix).T * (1 + 1e-5))


def rounding_bound(x: FloatArray | DoubleArray, matrix: FloatArray | DoubleArray) -> DoubleArray:
    """How far an fp32 sum in any order can be from the exact one [rows, out]: (n + 4) u Σ |x w|.

    u = 2⁻²⁴; Higham, Accuracy and Stability of Numerical Algorithms, section 3.1. The 4 are the scales' roundings.
    """
    magnitudes = np.abs(x).astype(np.float64) @ np.abs(matrix).astype(np.float64).T
    return np.asarray((x.shape[1] + 4) * 2.0**-24 * magnitudes)


def quantized_rows(x: FloatArray, levels: int = 127, zero_point: int = 128) -> tuple[NDArray[np.uint8], FloatArray]:
    """u8 [rows, in] around `zero_point`, and the scale of each row [rows, 1]; fp32 as the graph computes it."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    scale = np.maximum(largest / np.float32(levels), np.float32(1e-30))
    return np.clip(np.rint(x / scale) + zero_point, 0, 255).astype(np.uint8), scale


def saturating_product(activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """u8 [rows, in] · s8 [in, out] with vpmaddubsw: neighbouring products are added in 16 bits, which saturate."""
    products = activations.astype(np.int64)[:, :, None] * weights.astype(np.int64)
    pairs = products[:, 0::2] + products[:, 1::2]
    return np.asarray(np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1))

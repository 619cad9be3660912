"""From weights in groups of 4 or 8 bits to 8 bits with one scale for each output, as the integer product reads them.

What this adds to the loss of the groups is the rounding to the 255 steps of a row: half a step at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import FloatArray
from ..format.recipe import NF4_VALUES, WeightFormat

Parameters = Mapping[str, NDArray[Any]]
"""What is stored of some rows of a matrix, by last names: weight, scales, zero_points, absmax; rows come first."""

_NF4_VALUES = np.array(NF4_VALUES, np.float32)
_SMALLEST_SCALE = np.float32(1e-30)  # an output of zeros must not divide by zero


def requantize_rows(stored: Parameters, weights: WeightFormat, out: NDArray[np.int8]) -> FloatArray:
    """Round rows of a "block" or "nf4" matrix to 8 bits, into columns of another.

    Inputs come first from here on, as in the result: operations then run along outputs, far longer than a group.

    Args:
        stored: of these rows.
        out: int8 [in, rows]; filled with integers in [-127, 127].

    Returns: the scale of each row, fp32 [rows].
    """
    codes = _unpack_codes(stored["weight"], weights).reshape(-1, weights.block_size, len(stored["weight"]))
    steps = stored["absmax" if weights.kind == "nf4" else "scales"].T.astype(np.float32)
    zeros = _decode_zero_points(stored, weights, steps.shape)
    extremes = (np.abs(_decode(codes.max(axis=1), zeros)), np.abs(_decode(codes.min(axis=1), zeros)))
    largest = (np.maximum(*extremes) * np.abs(steps)).max(axis=0)
    scales: FloatArray = np.maximum(largest / np.float32(127), _SMALLEST_SCALE)
    steps /= scales
    for group, step in enumerate(steps):
        target = out[group * weights.block_size : (group + 1) * weights.block_size]
        numbers = _decode(codes[group, : len(target)], None if zeros is None else zeros[group])
        numbers *= step
        target[:] = np.rint(numbers, out=numbers)
    return scales


def dequantize(stored: Parameters, weights: WeightFormat, inputs: int) -> FloatArray:
    """What rows of a matrix stand for, fp32 [in, rows], however they are stored."""
    if weights.kind == "float":
        return np.asarray(stored["weight"].T, np.float32)
    if weights.kind == "row":
        return np.asarray((stored["weight"].T if weights.table else stored["weight"]) * stored["scales"])
    rows = stored["weight"].size * 8 // weights.bits // inputs if weights.kind == "nf4" else len(stored["weight"])
    steps = stored["absmax" if weights.kind == "nf4" else "scales"].reshape(rows, -1).T.astype(np.float32)
    zeros = _decode_zero_points(stored, weights, steps.shape)
    group = np.arange(inputs) // weights.block_size
    codes = _unpack_codes(stored["weight"].reshape(rows, -1), weights)[:inputs]
    return _decode(codes, None if zeros is None else zeros[group]) * steps[group]


def _unpack_codes(packed: NDArray[np.uint8], weights: WeightFormat) -> NDArray[np.uint8]:
    """[in, rows]; of two 4-bit codes in a byte the first is the low half, for nf4 the high one."""
    columns = np.ascontiguousarray(packed.reshape(len(packed), -1).T)
    return _unpack(columns, first_is_low=weights.kind != "nf4") if weights.bits == 4 else columns


def _decode_zero_points(stored: Parameters, weights: WeightFormat, shape: tuple[int, ...]) -> FloatArray | None:
    """[groups, rows], None for nf4."""
    if weights.kind == "nf4":
        return None
    if weights.symmetric:
        return np.full(shape, 1 << (weights.bits - 1), np.float32)
    columns = np.ascontiguousarray(stored["zero_points"].T)
    codes = columns if weights.bits == 8 else _unpack(columns, first_is_low=True)
    return codes[: shape[0]].astype(np.float32)


def _unpack(columns: NDArray[np.uint8], *, first_is_low: bool) -> NDArray[np.uint8]:
    """[2 n, rows] of the two halves of bytes [n, rows]."""
    codes = np.empty((2 * len(columns), columns.shape[1]), np.uint8)
    low, high = (0, 1) if first_is_low else (1, 0)
    np.bitwise_and(columns, 15, out=codes[low::2])
    np.right_shift(columns, 4, out=codes[high::2])
    return codes


def _decode(codes: NDArray[np.uint8], zeros: FloatArray | None) -> FloatArray:
    """What codes stand for, in units of their group's step; without zero points those of nf4."""
    if zeros is None:
        return _NF4_VALUES[codes]
    numbers: FloatArray = codes.astype(np.float32)
    numbers -= zeros
    return numbers

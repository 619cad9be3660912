"""Rounding groups anew to 8 bits a row, against plain NumPy in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dream_edge_export.quantize.grid import encode_embedding, encode_linear
from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.format.recipe import FLOAT, HALF, ROW, WeightFormat
from dream_edge_runtime.requantize.matrix import dequantize, requantize_rows
from support.arithmetic import DoubleArray, dequantized

FORMATS = {
    "4 bits, zero points": WeightFormat(kind="block", bits=4, block_size=32, symmetric=False),
    "4 bits, symmetric": WeightFormat(kind="block", bits=4, block_size=32),
    "4 bits, one group": WeightFormat(kind="block", bits=4, block_size=128, symmetric=False),
    "8 bits, zero points": WeightFormat(kind="block", bits=8, block_size=16, symmetric=False),
    "8 bits, symmetric": WeightFormat(kind="block", bits=8, block_size=32),
    "nf4": WeightFormat(kind="nf4", bits=4, block_size=16),
}


def rounded(weight: FloatArray, weights: WeightFormat) -> tuple[DoubleArray, DoubleArray, FloatArray]:
    """What the stored groups stand for [out, in], and the new integers [in, out] and scales [out]."""
    outputs, inputs = weight.shape
    stored = encode_linear(torch.from_numpy(weight), weights)
    if weights.kind == "nf4":
        by_row = {name: array.reshape(outputs, -1) for name, array in stored.items()}
    else:
        by_row = stored
    out = np.full((inputs, outputs), 99, np.int8)
    scales = requantize_rows(by_row, weights, out)
    return dequantized(stored, weights, inputs), out.astype(np.float64), scales


@pytest.mark.parametrize("weights", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("inputs", [80, 32])
def test_every_weight_is_the_nearest_step_of_its_row(weights: WeightFormat, inputs: int) -> None:
    rng = np.random.default_rng(1)
    weight = (
        rng.standard_normal((23, inputs)).astype(np.float32) * np.geomspace(1e-3, 10, 23, dtype=np.float32)[:, None]
    )
    stored, integers, scales = rounded(weight, weights)
    steps = np.abs(stored).max(axis=1) / 127
    np.testing.assert_allclose(scales, steps, rtol=1e-6)
    assert np.abs(integers).max() == 127
    assert (np.abs(integers.T * steps[:, None] - stored) <= steps[:, None] * (0.5 + 1e-4)).all()


@pytest.mark.parametrize("weights", FORMATS.values(), ids=FORMATS.keys())
def test_rows_of_zeros_stay_zeros(weights: WeightFormat) -> None:
    weight = np.zeros((3, 32), np.float32)
    weight[1] = 1
    stored, integers, scales = rounded(weight, weights)
    assert np.isfinite(scales).all()
    np.testing.assert_allclose((integers * scales).T, stored, atol=1e-2)
    assert not (integers * scales)[:, 0].any()


@pytest.mark.parametrize("weights", [*FORMATS.values(), FLOAT, HALF, ROW], ids=[*FORMATS, "fp32", "fp16", "row"])
@pytest.mark.parametrize("inputs", [80, 32])
def test_dequantized_weights_are_what_is_stored(weights: WeightFormat, inputs: int) -> None:
    weight = np.random.default_rng(2).standard_normal((23, inputs)).astype(np.float32)
    stored = encode_linear(torch.from_numpy(weight), weights)
    np.testing.assert_allclose(dequantize(stored, weights, inputs).T, dequantized(stored, weights, inputs), rtol=2**-23)


def test_dequantized_table_may_end_within_a_group() -> None:
    weights, table = WeightFormat(kind="block", bits=8, block_size=32), torch.randn(23, 72)
    stored = encode_embedding(table, weights)
    steps = np.repeat(np.abs(stored["scales"].astype(np.float32)), 32, axis=1)[:, :72]
    rounding = 1 + 128 * 2.0**-11  # 128 steps may have to be 127; and the step is rounded to fp16
    assert (np.abs(dequantize(stored, weights, 72).T - table.numpy()) <= rounding * steps).all()

"""Simulated products against the operators, and decoded weights against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dream_edge_export.quantize.grid import encode_embedding, encode_linear, round_weights
from dream_edge_export.quantize.simulated import SimulatedLinear, round_matrix
from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.format.recipe import FLOAT, HALF, ROW, WeightFormat
from support.arithmetic import dequantized, rounding_bound
from support.graphs import multiply, single_product

BLOCKS = [
    WeightFormat(kind="block", bits=bits, block_size=size, symmetric=symmetric)
    for bits, symmetric in ((4, False), (4, True), (8, True), (8, False))
    for size in (32, 128)
]
NF4 = WeightFormat(kind="nf4", bits=4, block_size=64)


def name(weights: WeightFormat) -> str:
    return f"{weights.kind}{weights.bits}-{weights.block_size}-{weights.symmetric}"


def normal(*shape: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("weights", BLOCKS, ids=name)
@pytest.mark.parametrize("width", [256, 200, 33])
def test_groups_stand_for_what_is_stored(weights: WeightFormat, width: int) -> None:
    matrix = torch.from_numpy(normal(24, width))
    arrays = encode_linear(matrix, weights)
    assert (round_weights(matrix, weights).numpy() == dequantized(arrays, weights, width)).all()


@pytest.mark.parametrize("weights", [FLOAT, HALF, ROW, NF4], ids=name)
def test_other_formats_stand_for_it_but_for_one_rounding(weights: WeightFormat) -> None:
    matrix = torch.from_numpy(normal(24, 128))
    exact = dequantized(encode_linear(matrix, weights), weights, 128)
    assert (np.abs(round_weights(matrix, weights).numpy() - exact) <= 2.0**-24 * np.abs(exact)).all()


@pytest.mark.parametrize("width", [256, 96])
def test_a_table_is_rounded_as_it_is_looked_up(width: int) -> None:
    weights = WeightFormat(kind="block", bits=8, block_size=128)
    table = normal(10, width)
    arrays = encode_embedding(torch.from_numpy(table), weights)
    steps = np.repeat(arrays["scales"].astype(np.float64), 128, axis=1)[:, :width]
    expected = (arrays["weight"].astype(np.float64) - 128) * steps
    assert (round_weights(torch.from_numpy(table), weights).numpy() == expected).all()


@pytest.mark.parametrize("weights", [ROW, BLOCKS[0], NF4], ids=name)
def test_a_matrix_rounded_in_slices_is_that_of_an_export(weights: WeightFormat) -> None:
    matrix = normal(700, 2048)  # slices have 512 rows of this width
    whole = dequantized(encode_linear(torch.from_numpy(matrix), weights), weights, 2048)
    assert np.allclose(round_matrix(torch.from_numpy(matrix), weights).numpy(), whole, rtol=2.0**-23, atol=0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("weights", [FLOAT, HALF, ROW, NF4, *BLOCKS[:-2]], ids=name)
def test_a_simulated_product_is_the_operators(weights: WeightFormat, bias: bool) -> None:
    """Up to the order of fp32 sums; activations rounded otherwise would be hundreds of times further away."""
    matrix, x, offset = normal(48, 256), normal(40, 256, seed=1), normal(48, seed=2)
    model, arrays = single_product(weights, matrix, offset if bias else None)
    simulated = SimulatedLinear(torch.from_numpy(matrix), weights, torch.from_numpy(offset) if bias else None)
    stored = np.abs(dequantized(arrays, weights, 256))
    summands = stored + stored.max() * 2  # zero points are subtracted from whole sums
    allowed = 2 * rounding_bound(x, summands) + 2.0**-22 * np.abs(offset)
    assert (np.abs(simulated(torch.from_numpy(x)).numpy() - multiply(model, x)) <= allowed).all()


def test_rows_and_groups_of_zeros_stay_zero() -> None:
    matrix, x = torch.from_numpy(normal(8, 64)), torch.zeros(3, 64)
    for weights in (ROW, BLOCKS[0]):
        assert (SimulatedLinear(matrix, weights)(x) == 0).all()

"""Each matrix product against NumPy: what is stored, and what the operators make of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dream_edge_export.quantize.grid import encode_embedding, encode_linear
from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.format.recipe import FLOAT, HALF, ROW, SCHEMES, Recipe, WeightFormat
from dream_edge_runtime.format.tensors import matrix_shapes
from support.arithmetic import block_bound, block_rounded, dequantized, quantized_rows, rounding_bound
from support.graphs import multiply, single_product
from support.networks import small_config

BLOCK_FORMATS = [
    WeightFormat(kind="block", bits=bits, block_size=size, symmetric=symmetric)
    for bits, symmetric in ((4, False), (4, True), (8, True))
    for size in (16, 32, 64, 128, 256)
]
FORMATS = [FLOAT, HALF, ROW, *BLOCK_FORMATS]
WIDTHS = [256, 200, 33]  # whole blocks; a partial last one; less than a block of 64


def name(weights: WeightFormat) -> str:
    size = f"-{weights.block_size}" if weights.block_size else ""
    return f"{weights.kind}{weights.bits}{size}{'' if weights.symmetric else '-zero'}"


def normal(*shape: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def extreme_rows(width: int) -> FloatArray:
    """Rows that break careless scaling: zeros, one outlier, denormals, huge values, a single sign, alternating ends."""
    x = normal(8, width, seed=5)
    x[0] = 0
    x[1, width // 2] = 1e4
    x[2] = 1e-40
    x[3] *= 1e30
    x[4] = np.abs(x[4])
    x[5] = np.where(np.arange(width) % 2, 1, -1)
    x[6, :16] = 0
    x[7] *= 1e-20
    return x


# --- what is stored --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", BLOCK_FORMATS, ids=name)
@pytest.mark.parametrize("width", WIDTHS)
def test_block_weights_are_the_nearest_their_scale_allows(weights: WeightFormat, width: int) -> None:
    """Each weight is at most half a step away, unless it lies beyond the last code (whose scale fp16 rounded)."""
    matrix = normal(24, width)
    arrays = encode_linear(torch.from_numpy(matrix), weights)
    step = np.repeat(np.abs(arrays["scales"].astype(np.float64)), weights.block_size, axis=1)[:, :width]
    error = np.abs(dequantized(arrays, weights, width) - matrix)
    end = np.abs(matrix) > 0.9 * np.abs(matrix).max(axis=1, keepdims=True)
    assert (error <= step * np.where(weights.symmetric | end, 1.01, 0.5001) + 1e-12).all()
    assert (error <= step * 0.5001).mean() > 0.95


def test_row_weights_are_the_nearest_their_scale_allows() -> None:
    matrix = normal(40, 70)
    arrays = encode_linear(torch.from_numpy(matrix), ROW)
    error = np.abs(dequantized(arrays, ROW, 70) - matrix)
    assert (error <= arrays["scales"].astype(np.float64)[:, None] * 0.50001).all()
    assert (np.abs(arrays["weight"]).max(axis=0) == 127).all()
    assert arrays["weight"].min() >= -127


@pytest.mark.parametrize("weights", FORMATS, ids=name)
def test_zero_weights_stay_zero(weights: WeightFormat) -> None:
    arrays = encode_linear(torch.zeros(5, 70), weights)
    assert (dequantized(arrays, weights, 70) == 0).all()
    product = multiply(single_product(weights, np.zeros((5, 70), np.float32))[0], normal(3, 70))
    assert (np.abs(product) < 1e-9).all()  # MatMulNBits subtracts zero points from whole sums, in fp32


@pytest.mark.parametrize("weights", [ROW, *BLOCK_FORMATS], ids=name)
def test_zero_weight_beside_large_ones_stays_zero(weights: WeightFormat) -> None:
    """Masks of pruned models survive, with zero points too: zero is always one of the codes."""
    matrix = normal(8, 96) + 3
    matrix[:, ::5] = 0
    arrays = encode_linear(torch.from_numpy(matrix), weights)
    assert (dequantized(arrays, weights, 96)[:, ::5] == 0).all()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("weights", BLOCK_FORMATS, ids=name)
def test_weights_of_one_sign_keep_their_values(weights: WeightFormat, sign: int) -> None:
    """The zero point of a block far from zero would lie outside its codes."""
    matrix = sign * (10 + normal(8, 96))
    stored = dequantized(encode_linear(torch.from_numpy(matrix), weights), weights, 96)
    assert np.abs(stored - matrix).max() <= 1.01 * np.abs(matrix).max() / 2 ** (weights.bits - 1)


@pytest.mark.parametrize("bits", [4, 8])
def test_embedding_rows_decode_to_their_nearest_codes(bits: int) -> None:
    weights = WeightFormat(kind="block", bits=bits, block_size=32)
    table = normal(10, 96)
    arrays = encode_embedding(torch.from_numpy(table), weights)
    assert arrays["weight"].shape == (10, 96 * bits // 8)
    as_matrix = {**arrays, "weight": arrays["weight"].reshape(10, 3, -1)}
    assert np.abs(dequantized(as_matrix, weights, 96) - table).max() < np.abs(table).max() / 2 ** (bits - 1)


# --- what the operators make of it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_float_product_equals_numpy(width: int, bias: bool) -> None:
    matrix, x, offset = normal(48, width), normal(9, width, seed=1), normal(48, seed=2)
    found = multiply(single_product(FLOAT, matrix, offset if bias else None)[0], x)
    expected = x.astype(np.float64) @ matrix.T.astype(np.float64) + (offset if bias else 0)
    assert (np.abs(found - expected) <= rounding_bound(x, matrix) + 2.0**-23 * np.abs(expected)).all()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_row_product_is_exact_in_integers(width: int, bias: bool) -> None:
    """The sum of integers is exact; three fp32 roundings follow (two scales, the bias)."""
    matrix, x, offset = normal(48, width), normal(9, width, seed=1), normal(48, seed=2)
    model, arrays = single_product(ROW, matrix, offset if bias else None)
    codes, scale = quantized_rows(x)
    integers = (codes.astype(np.int64) - 128) @ arrays["weight"].astype(np.int64)
    scaled = integers * arrays["scales"].astype(np.float64) * scale
    expected = scaled + (offset if bias else 0)
    allowed = 4 * 2.0**-24 * (np.abs(scaled) + np.abs(expected))
    assert (np.abs(multiply(model, x) - expected) <= allowed).all()


def test_row_product_of_extreme_rows() -> None:
    matrix, x = normal(48, 96), extreme_rows(96)
    model, arrays = single_product(ROW, matrix)
    codes, scale = quantized_rows(x)
    expected = (codes.astype(np.float64) - 128) * scale @ dequantized(arrays, ROW, 96).T
    found = multiply(model, x)
    assert np.isfinite(found).all()
    assert (found[0] == 0).all()
    normal_range = np.abs(expected) > 1e-30  # below, fp32 itself runs out of digits
    assert np.allclose(found[normal_range], expected[normal_range], rtol=1e-6, atol=0)
    assert (np.abs(found[~normal_range]) <= 1e-28).all()


@pytest.mark.parametrize("weights", BLOCK_FORMATS, ids=name)
@pytest.mark.parametrize("width", WIDTHS)
def test_block_product_equals_its_integer_arithmetic(weights: WeightFormat, width: int) -> None:
    """Activations rounded as MLAS rounds them leave nothing but fp32 summation between operator and oracle."""
    matrix, x, offset = normal(48, width), normal(40, width, seed=1), normal(48, seed=2)
    model, arrays = single_product(weights, matrix, offset)
    stored, rounded = dequantized(arrays, weights, width), block_rounded(x, weights.block_size)
    expected = rounded @ stored.T + offset
    # zero points are subtracted from whole sums, so they count among the summands
    steps = np.repeat(np.abs(arrays["scales"].astype(np.float64)), weights.block_size, axis=1)[:, :width]
    summands = np.abs(stored) + steps * 2**weights.bits
    assert (
        np.abs(multiply(model, x) - expected) <= rounding_bound(rounded, summands) + 2.0**-23 * np.abs(expected)
    ).all()


@pytest.mark.parametrize("weights", BLOCK_FORMATS, ids=name)
def test_block_product_of_extreme_rows_keeps_the_derived_bound(weights: WeightFormat) -> None:
    matrix, x = normal(48, 200), extreme_rows(200)
    model, arrays = single_product(weights, matrix)
    stored = dequantized(arrays, weights, 200)
    allowed = block_bound(x, stored, weights.block_size) + rounding_bound(x, np.abs(stored) + np.abs(stored).max())
    found = multiply(model, x)
    assert np.isfinite(found).all()
    assert (np.abs(found - x.astype(np.float64) @ stored.T) <= allowed + 1e-37).all()


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("bits", [4, 8])
def test_block_product_of_largest_integers_does_not_saturate(bits: int, sign: int, rows: int) -> None:
    """All codes and all activations at their ends: pairs of products that would overflow 16 bits at 8-bit weights."""
    weights = WeightFormat(kind="block", bits=bits, block_size=128)
    matrix = np.full((48, 256), 1 / 2 ** (bits - 1) - 1, np.float32)
    matrix[:, ::128] = 1  # code 0; the others get the largest
    model, arrays = single_product(weights, matrix)
    assert arrays["weight"].max() == 255
    x = np.full((rows, 256), sign, np.float32)
    assert np.allclose(multiply(model, x), sign * matrix.sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("weights", FORMATS, ids=name)
def test_every_kind_of_matrix_multiplies_as_it_is_stored(weights: WeightFormat) -> None:
    """The shapes of all seven matrices of a layer whose widths are multiples of no block."""
    config = small_config(hidden_size=72, intermediate_size=100, num_attention_heads=6, num_key_value_heads=3)
    shapes = {key.rpartition(".")[2]: shape for key, shape in matrix_shapes(config).items() if ".layers.0." in key}
    assert len(shapes) == 7
    for kind, (outputs, inputs) in shapes.items():
        bias = normal(outputs, seed=3) if kind in ("q_proj", "k_proj", "v_proj") else None
        matrix, x = normal(outputs, inputs, seed=4), normal(6, inputs, seed=5)
        model, arrays = single_product(weights, matrix, bias)
        seen: Any = x.astype(np.float64)
        if weights.kind == "block":
            seen = block_rounded(x, weights.block_size)
        elif weights.kind == "row":
            codes, scale = quantized_rows(x)
            seen = (codes.astype(np.float64) - 128) * scale
        expected = seen @ dequantized(arrays, weights, inputs).T + (0 if bias is None else bias)
        assert np.abs(multiply(model, x) - expected).max() <= 1e-5 * np.abs(expected).max(), kind


def test_a_row_of_the_integer_product_does_not_depend_on_the_others() -> None:
    """Bit for bit. Block products promise no such thing: MLAS sums a single row in another order."""
    model, _ = single_product(ROW, normal(64, 256))
    x = normal(33, 256, seed=1)
    together = multiply(model, x)
    assert all((multiply(model, x[row : row + 1])[0] == together[row]).all() for row in range(0, 33, 8))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_stored_bytes_of_a_recipe_are_those_of_its_arrays(scheme: str) -> None:
    formats, config = Recipe.for_scheme(scheme, layers=2).targets["cpu"], small_config()
    for key, (outputs, inputs) in matrix_shapes(config).items():
        encode = encode_embedding if key == "model.embed_tokens" else encode_linear
        arrays = encode(torch.from_numpy(normal(outputs, inputs)), formats.of(key))
        if inputs % max(1, formats.of(key).block_size) == 0:
            assert sum(array.nbytes for array in arrays.values()) == formats.of(key).stored_bytes(outputs, inputs)


def test_scales_beyond_fp16_stay_finite() -> None:
    """No trained weight is near it, but an infinite scale would turn a whole row into NaN."""
    huge = torch.full((2, 32), 1e7)
    for symmetric in (True, False):
        encoded = encode_linear(huge, WeightFormat(kind="block", bits=4, block_size=32, symmetric=symmetric))
        assert np.isfinite(encoded["scales"]).all()

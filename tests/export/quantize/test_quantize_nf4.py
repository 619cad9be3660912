"""NF4 against bitsandbytes, byte for byte, and the operator that multiplies by it against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.quantize.grid import encode_linear
from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.format.recipe import NF4_VALUES, Recipe, WeightFormat
from support.arithmetic import dequantized, rounding_bound
from support.checkpoints import write_checkpoint
from support.graphs import multiply, single_product

BLOCK_SIZES = [32, 64, 128]


def nf4(block_size: int) -> WeightFormat:
    return WeightFormat(kind="nf4", bits=4, block_size=block_size)


def matrices() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(96, 256, generator=generator)
    with_zeros = normal.clone()
    with_zeros[3:9] = 0
    values = torch.tensor(NF4_VALUES)
    midpoints = (values[:-1] + values[1:]) / 2
    return {
        "normal": normal,
        "bf16": normal.to(torch.bfloat16),
        "heavy_tails": normal**5,
        "zero_blocks": with_zeros,
        "tiny": normal * 1e-30,
        "ties": torch.cat([midpoints, torch.ones(1)]).repeat(96, 16),
    }


@pytest.mark.parametrize("kind", matrices())
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_bytes_and_absmax_are_those_of_bitsandbytes(block_size: int, kind: str) -> None:
    matrix = matrices()[kind]
    ours = encode_linear(matrix, nf4(block_size))
    codes, state = quantize_4bit(matrix.float(), blocksize=block_size, quant_type="nf4")
    assert (ours["weight"] == codes.numpy().reshape(-1)).all()
    assert (ours["absmax"] == state.absmax.numpy()).all()
    restored = dequantize_4bit(codes, state)
    assert (dequantized(ours, nf4(block_size), 256).astype(np.float32) == restored.numpy()).all()


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_product_in_fp32_equals_numpy(block_size: int, rows: int) -> None:
    matrix, x, bias = random(48, 256, seed=1), random(rows, 256, seed=2), random(48, seed=3)
    model, arrays = single_product(nf4(block_size), matrix, bias)
    stored = dequantized(arrays, nf4(block_size), 256)
    expected = x.astype(np.float64) @ stored.T + bias
    allowed = rounding_bound(x, stored) + 2.0**-23 * np.abs(expected)
    assert (np.abs(multiply(model, x) - expected) <= allowed).all()


def test_product_in_fp16_equals_numpy() -> None:
    """What the graph for CUDA does: fp16 inputs, fp16 absmax, an fp16 result."""
    matrix, x = random(48, 256, seed=1), random(9, 256, seed=2).astype(np.float16)
    model, arrays = single_product(nf4(64), matrix, activation="float16")
    stored = dequantized(arrays, nf4(64), 256)
    exact = x.astype(np.float64)
    magnitudes = np.abs(exact) @ np.abs(stored).T
    found = multiply(model, x).astype(np.float64)
    assert (np.abs(found - exact @ stored.T) <= 3 * 2.0**-11 * magnitudes).all()


def random(*shape: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("scheme", "target", "warned"), [("nf4", "all", True), ("nf4", "cpu", False)])
def test_nf4_is_advised_against_on_cuda(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scheme: str, target: str, warned: bool
) -> None:
    write_checkpoint(tmp_path / "checkpoint", hidden_size=128, intermediate_size=256)
    export(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "out", Recipe.for_scheme(scheme, target=target))
    assert ("NF4 is slow on a GPU" in caplog.text) == warned

"""Rounding with feedback, against the textbook's loop and against least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dream_edge_export.quantize.calibrate.gptq import DAMPING, Feedback, Moments
from dream_edge_export.quantize.grid import Grid
from dream_edge_runtime.format.recipe import ROW, WeightFormat
from support.arithmetic import dequantized

INT4 = WeightFormat(kind="block", bits=4, block_size=32, symmetric=False)
FORMATS = [
    INT4,
    WeightFormat(kind="block", bits=4, block_size=32),
    WeightFormat(kind="block", bits=8, block_size=128),
    WeightFormat(kind="nf4", bits=4, block_size=64),
    ROW,
]
INPUTS, OUTPUTS = 128, 40


def correlated(tokens: int = 400, seed: int = 0) -> torch.Tensor:
    """Inputs [tokens, in] of unequal sizes that share a few causes."""
    rng = np.random.default_rng(seed)
    causes = rng.standard_normal((tokens, 12)) @ rng.standard_normal((12, INPUTS))
    values = (causes + 0.3 * rng.standard_normal((tokens, INPUTS))) * rng.uniform(0.2, 3, INPUTS)
    return torch.from_numpy(values.astype(np.float32))


def weights(seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((OUTPUTS, INPUTS)).astype(np.float32))


def moments_of(inputs: torch.Tensor, missing: torch.Tensor | None = None) -> Moments:
    drifting = torch.zeros_like(inputs) if missing is None else missing
    moments = Moments(torch.argsort(inputs.square().sum(dim=0), stable=True), drifting.shape[1])
    for half in range(2):
        moments.see(inputs[half::2], drifting[half::2])
    return moments


def textbook(weight: torch.Tensor, inputs: torch.Tensor, grid: Grid) -> NDArray[np.float64]:
    """Frantar et al., section 3: the inverse Hessian, updated after each input by elimination. In float64."""
    x, w = inputs.double().numpy(), weight.double().numpy().copy()
    hessian = x.T @ x
    hessian[np.diag_indices(INPUTS)] += DAMPING * np.diag(hessian).mean()
    order = np.argsort(-np.diag(hessian), kind="stable")
    inverse = np.linalg.inv(hessian)
    codes = np.zeros_like(w)
    for q in order:
        group = q // (grid.weights.block_size or INPUTS)
        step, zero = grid.steps[:, group].double(), grid.zero_points[:, group].double()
        chosen = grid.nearest(torch.from_numpy(w[:, q]), step, zero)
        codes[:, q] = chosen.numpy()
        error = (w[:, q] - grid.numbers(chosen, step, zero).numpy()) / inverse[q, q]
        w -= np.outer(error, inverse[q])
        inverse -= np.outer(inverse[:, q], inverse[q]) / inverse[q, q]
    return codes


@pytest.mark.parametrize("weights_format", FORMATS, ids=lambda each: f"{each.kind}{each.bits}")
def test_codes_are_those_of_the_textbook(weights_format: WeightFormat) -> None:
    weight, inputs = weights(), correlated()
    grid = Grid.of(weight, weights_format)
    ours = Feedback.of(moments_of(inputs)).round(weight, grid).numpy()
    # a tie that fp32 decides otherwise changes all that follows in its row
    same_rows = (ours == textbook(weight, inputs, grid)).all(axis=1)
    assert same_rows.mean() >= 0.9


@pytest.mark.parametrize("weights_format", FORMATS, ids=lambda each: f"{each.kind}{each.bits}")
def test_products_come_nearer_than_those_of_the_nearest_weights(weights_format: WeightFormat) -> None:
    weight, inputs = weights(), correlated()
    grid = Grid.of(weight, weights_format)
    fed_back = grid.dequantize(Feedback.of(moments_of(inputs)).round(weight, grid))
    nearest = grid.dequantize(grid.codes(weight))
    new = correlated(seed=0)[::3]

    def error(chosen: torch.Tensor) -> float:
        return float(((chosen - weight) @ new.T).square().sum())

    assert error(fed_back) < 0.4 * error(nearest)


@pytest.mark.parametrize("weights_format", FORMATS, ids=lambda each: f"{each.kind}{each.bits}")
def test_codes_stand_for_what_is_stored(weights_format: WeightFormat) -> None:
    weight = weights()
    grid = Grid.of(weight, weights_format)
    codes = Feedback.of(moments_of(correlated())).round(weight, grid)
    stored = grid.encode(codes.to(torch.int8 if weights_format.kind == "row" else torch.uint8))
    np.testing.assert_allclose(
        grid.dequantize(codes).numpy(), dequantized(stored, weights_format, INPUTS), rtol=1e-6, atol=1e-9
    )


def test_shifted_weights_are_the_least_squares_for_the_original_products() -> None:
    weight, original = weights(), correlated()
    ours = original + 0.2 * correlated(seed=7)
    moments = moments_of(ours, original - ours)
    feedback = Feedback.of(moments)
    shifted = feedback.shift(weight, weight @ moments.drift)

    x, y = ours.double().numpy(), original.double().numpy() @ weight.double().numpy().T
    damping = np.sqrt(DAMPING * np.square(x).sum(axis=0).mean())
    # minus what the damping pulls: towards the weights as they were, not towards 0
    rows = np.concatenate([x, damping * np.eye(INPUTS)])
    wanted = np.concatenate([y, damping * weight.double().numpy().T])
    expected = np.linalg.lstsq(rows, wanted, rcond=None)[0].T
    np.testing.assert_allclose(shifted.numpy(), expected, atol=2e-4)


def test_inputs_that_are_always_zero_are_rounded_too() -> None:
    inputs = correlated()
    inputs[:, 5:20] = 0
    weight = weights()
    grid = Grid.of(weight, INT4)
    codes = Feedback.of(moments_of(inputs)).round(weight, grid)
    assert codes.isfinite().all()
    assert (codes[:, 5:20] == grid.codes(weight)[:, 5:20]).all()
    assert Feedback.of(moments_of(torch.zeros(3, INPUTS))).round(weight, grid).isfinite().all()

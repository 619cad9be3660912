"""GPTQ: round a matrix input by input, each one making up for the errors of those before it.

Frantar et al., "GPTQ" (arXiv 2210.17323). What is minimised is the error of the product over the calibration inputs,
‖(W - Ŵ) X‖² = Σ over outputs of e H eᵀ with e = w - ŵ and H = X Xᵀ. With H = L Lᵀ that is ‖e L‖², and L is lower
triangular: the last term depends on the last input alone, the one before on the last two, and so on. So the inputs are
rounded from the last to the first, each to the number nearest to what makes its own term zero. This is the paper's
algorithm with one factorisation and no inverse (Chen et al., "The Geometry of LLM Quantization", arXiv 2507.18553).

The most active inputs are rounded first, while all others can still make up for them (the paper's "act-order"). Groups
keep their places and have their steps beforehand, so that nothing needs to be reordered at run time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..grid import Grid

DAMPING = 0.01
"""Added to the diagonal of H, as a share of its mean: section 3.3, step 3 of the paper."""

_BLOCK = 128


class Moments:
    """Statistics of the inputs of a matrix, summed over tokens. `order` [in]: from the least active to the most.

    Attributes:
        second: Σ x xᵀ [in, in], x being what the quantized network computes, in that order.
        drift: Σ d xᵀ [any, in], d being what the original has and the quantized network lacks.
    """

    def __init__(self, order: Tensor, drifting: int) -> None:
        self.order = order
        self.second = torch.zeros(len(order), len(order))
        self.drift = torch.zeros(drifting, len(order))

    def see(self, inputs: Tensor, missing: Tensor) -> None:
        """inputs: [tokens, in]; missing: [tokens, any]"""
        ordered = inputs[:, self.order]
        self.second.addmm_(ordered.T, ordered)
        self.drift.addmm_(missing.T, ordered)


@dataclass(frozen=True)
class Feedback:
    """How inputs make up for each other: `order` [in], and L of H in that order."""

    order: Tensor
    factor: Tensor

    @classmethod
    def of(cls, moments: Moments) -> Feedback:
        """`moments.second` gets its damping in place, since it may be the largest thing in memory."""
        second = moments.second
        diagonal = second.diagonal().clone()
        damping = float(diagonal.mean()) * DAMPING + torch.finfo(torch.float32).tiny
        while True:
            second.diagonal().copy_(diagonal + damping)
            factor, failed = torch.linalg.cholesky_ex(second)
            if not int(failed):
                return cls(moments.order, factor)
            damping *= 10  # fp32 can lose a definite matrix of many nearly equal inputs

    def shift(self, weight: Tensor, shift: Tensor) -> Tensor:
        """W + S H⁻¹, for W [out, in] and S [out, in] in our order: what comes nearest to W X + Y where S = Y Xᵀ.

        Li et al., "GPTAQ" (arXiv 2504.02692): what the quantized layers before have lost is asked of this one.
        """
        result = weight.clone()
        # not cholesky_solve, which copies the factor: of 7B, 1.44 GB
        half = torch.linalg.solve_triangular(self.factor, shift.T, upper=False)
        result[:, self.order] += torch.linalg.solve_triangular(self.factor.mT, half, upper=True).T
        return result

    def round(self, weight: Tensor, grid: Grid) -> Tensor:
        """The codes [out, in] of `weight` in `grid`, as floats."""
        inputs, factor = len(self.order), self.factor
        wanted = weight.T[self.order]  # the weights of an input side by side
        steps, zero_points = grid.steps.T.contiguous(), grid.zero_points.T.contiguous()
        group_of = (self.order // (grid.weights.block_size or inputs)).tolist()
        errors, codes = torch.empty_like(wanted), torch.empty_like(wanted)
        for end in range(inputs, 0, -_BLOCK):
            start = max(0, end - _BLOCK)
            carried = factor[end:, start:end].T @ errors[end:]
            for index in range(end - 1, start - 1, -1):
                made_up = carried[index - start] + factor[index + 1 : end, index] @ errors[index + 1 : end]
                step, zero_point = steps[group_of[index]], zero_points[group_of[index]]
                codes[index] = grid.nearest(wanted[index] + made_up / factor[index, index], step, zero_point)
                errors[index] = wanted[index] - grid.numbers(codes[index], step, zero_point)
        result = torch.empty_like(weight)
        result[:, self.order] = codes.T
        return result

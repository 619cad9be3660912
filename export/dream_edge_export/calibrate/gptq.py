"""GPTQ: round a matrix column by column, each column making up for the errors of those before it.

Frantar et al., "GPTQ" (arXiv 2210.17323). What is minimised is the error of the product over the calibration inputs,
‖(W - Ŵ) X‖² = Σ over outputs of e H eᵀ with e = w - ŵ and H = X Xᵀ. With H = L Lᵀ that is ‖e L‖², and L is lower
triangular: the last term depends on the last input alone, the one before on the last two, and so on. So the inputs are
rounded from the last to the first, each to the number nearest to what makes its own term zero. This is the paper's
algorithm with one factorisation and no inverse (Chen et al., "The Geometry of LLM Quantization", arXiv 2507.18553).

Inputs are ordered so that the most active come first, while all others can still make up for them (the paper's
"act-order"); groups keep their places and have their steps beforehand, so that nothing needs to be reordered at run time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..quantize import Grid

DAMPING = 0.01
"""Added to the diagonal of H, as a share of its mean: section 3.3, step 3 of the paper."""

_BLOCK = 128


@dataclass(frozen=True)
class Feedback:
    """How inputs make up for each other. `order` [in]: from the least active input to the most; `factor` is L of H."""

    order: Tensor
    factor: Tensor

    @classmethod
    def of(cls, moments: Tensor, damping: float = DAMPING) -> Feedback:
        """Of the inputs' second moments H [in, in]."""
        diagonal = moments.diagonal()
        order = torch.argsort(diagonal, stable=True)
        damped = moments[order]
        damped = damped[:, order]
        smallest = float(diagonal.mean()) * damping + torch.finfo(torch.float32).tiny
        failed = 1
        while failed:  # fp32 can lose a definite matrix of many nearly equal inputs
            damped.diagonal().copy_(diagonal[order] + smallest)
            factor, info = torch.linalg.cholesky_ex(damped)
            failed, smallest = int(info), 10 * smallest
        return cls(order, factor)

    def shifted(self, weight: Tensor, shift: Tensor) -> Tensor:
        """W + S H⁻¹ [out, in] for weights and S [out, in]: what comes nearest to W X + Y where S = Y Xᵀ."""
        solved = torch.cholesky_solve(shift.T[self.order], self.factor)
        result = weight.clone()
        result[:, self.order] += solved.T
        return result

    def round(self, weight: Tensor, grid: Grid) -> Tensor:
        """The codes [out, in] of `weight` in `grid`, as floats."""
        inputs, factor = len(self.order), self.factor
        wanted = weight.T[self.order]  # an input's weights side by side
        steps, zero_points = grid.steps.T.contiguous(), grid.zero_points.T.contiguous()
        width = grid.weights.block_size or inputs
        group_of = (self.order // width).tolist()
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

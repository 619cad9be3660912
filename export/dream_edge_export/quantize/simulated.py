"""Matrix products as the runtime computes them, in PyTorch: weights and activations rounded as operators round them.

With these a format is tried in the full-precision network, without an export.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dream_edge_runtime.format.recipe import WeightFormat
from dream_edge_runtime.graph.signature import EIGHT_BITS

from .grid import round_weights
from .weights import count_slice_rows


class SimulatedLinear(nn.Module):
    """The product with a matrix stored in `weights`, on a processor; see `graph.linear` for the operators.

    "row" rounds its input to 8 bits with one scale a row, "block" with one scale a group; others leave it alone. What
    remains between this and the operator is the order of fp32 sums.
    """

    def __init__(self, weight: Tensor, weights: WeightFormat, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight, self.bias, self.format = round_matrix(weight, weights), bias, weights

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(round_input(x, self.format), self.weight, self.bias)


def round_matrix(weight: Tensor, weights: WeightFormat) -> Tensor:
    """The matrix [out, in] that the runtime multiplies by, fp32, once `weight` is stored in `weights`."""
    result = torch.empty(weight.shape, dtype=torch.float32)
    rows = count_slice_rows(weight.shape[1])
    for start in range(0, len(weight), rows):
        result[start : start + rows] = round_weights(weight[start : start + rows], weights)
    return result


def round_input(x: Tensor, weights: WeightFormat) -> Tensor:
    """Round the input [..., in] of a product as a processor does before it multiplies."""
    if weights.kind == "row":
        levels, _ = EIGHT_BITS
        scale = (x.abs().amax(dim=-1, keepdim=True) / levels).clamp(min=1e-30)
        return (x / scale).round_().mul_(scale)
    if weights.kind != "block":
        return x
    inputs = x.shape[-1]
    padded = F.pad(x, (0, weights.blocks(inputs) * weights.block_size - inputs))
    groups = padded.view(*x.shape[:-1], -1, weights.block_size)
    largest = groups.abs().amax(dim=-1, keepdim=True)
    inverse = torch.where(largest == 0, 0.0, 127 / largest)
    rounded_groups: Tensor = (groups * inverse).round_().mul_(largest / 127)
    return rounded_groups.flatten(-2)[..., :inputs]

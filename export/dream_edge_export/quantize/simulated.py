"""Matrix products as the runtime computes them, in PyTorch: weights and activations rounded as operators round them.

With these a format is tried in the full-precision network, without an export.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dream_edge_runtime.format.recipe import NF4_VALUES, WeightFormat
from dream_edge_runtime.graph.signature import EIGHT_BITS

from .grid import encode_embedding, encode_linear
from .weights import rows_of_slice


class SimulatedLinear(nn.Module):
    """The product with a matrix stored in `weights`, on a processor; see `graph.linear` for the operators.

    "row" rounds its input to 8 bits with one scale a row, "block" with one scale a group; others leave it alone. What
    remains between this and the operator is the order of fp32 sums.
    """

    def __init__(self, weight: Tensor, weights: WeightFormat, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight, self.bias, self.format = rounded(weight, weights), bias, weights

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(rounded_input(x, self.format), self.weight, self.bias)


def rounded(weight: Tensor, weights: WeightFormat) -> Tensor:
    """The matrix [out, in] that the runtime multiplies by, fp32, once `weight` is stored in `weights`."""
    result = torch.empty(weight.shape, dtype=torch.float32)
    rows = rows_of_slice(weight.shape[1])
    for start in range(0, len(weight), rows):
        part = weight[start : start + rows]
        result[start : start + rows] = decoded(encode_linear(part, weights), weights, weight.shape[1])
    return result


def rounded_table(table: Tensor, weights: WeightFormat) -> Tensor:
    """The rows that the runtime looks up, fp32 [rows, width], once `table` is stored in `weights`."""
    return decoded(encode_embedding(table, weights), weights, table.shape[1])


def rounded_input(x: Tensor, weights: WeightFormat) -> Tensor:
    """What a processor makes of the input [..., in] of a product, before it multiplies."""
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


def decoded(arrays: Mapping[str, NDArray[Any]], weights: WeightFormat, inputs: int) -> Tensor:
    """The matrix fp32 [rows, inputs] that stored parameters stand for: of a product, or of an embedding.

    Exact for groups (a code of at most 8 bits times a scale of 11); otherwise rounded once.
    """
    stored = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    if weights.kind == "float":
        return stored["weight"].float()
    if weights.kind == "row":
        return stored["weight"].T.float() * stored["scales"][:, None]
    if weights.kind == "nf4":
        codes = torch.stack([stored["weight"] >> 4, stored["weight"] & 15], dim=-1).reshape(-1, weights.block_size)
        return (torch.tensor(NF4_VALUES)[codes.int()] * stored["absmax"][:, None]).reshape(-1, inputs)
    scales = _spread(stored["scales"].float(), weights, inputs)
    middle = 1 << (weights.bits - 1)
    zeros = torch.tensor(float(middle))
    if not weights.symmetric:
        zeros = _spread(_codes(stored["zero_points"], weights.bits)[:, : weights.blocks(inputs)], weights, inputs)
    return (_codes(stored["weight"].flatten(1), weights.bits)[:, :inputs] - zeros) * scales


def _spread(groups: Tensor, weights: WeightFormat, inputs: int) -> Tensor:
    """What groups [rows, groups] have in common, for each of their inputs [rows, inputs]."""
    return groups.repeat_interleave(weights.block_size, dim=1)[:, :inputs]


def _codes(packed: Tensor, bits: int) -> Tensor:
    """Codes fp32 [rows, n] of bytes; of two 4-bit codes in a byte the first is the low half."""
    if bits == 4:
        packed = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1)
    return packed.float()

"""Round matrices, in the layouts that the graph's operators read.

Every function takes weights [out, in] as PyTorch holds them and gives NumPy arrays named as the graph's parameters.
The scale is rounded to its stored type first and the weights are then rounded against that very scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dream_edge_runtime.format.recipe import NF4_VALUES, WeightFormat

Arrays = dict[str, NDArray[np.generic]]

_SMALLEST_SCALE = float(np.finfo(np.float16).smallest_subnormal)
_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Grid:
    """The numbers that the weights of a matrix [out, in] can become: in each group of inputs, multiples of a step.

    Attributes:
        weights: the format; not "float".
        steps: fp32 [out, groups], as the artifact will hold them; the largest magnitudes of nf4's groups.
        zero_points: fp32 [out, groups], whole numbers: the codes of 0. Those of nf4 mean nothing.
    """

    weights: WeightFormat
    steps: Tensor
    zero_points: Tensor

    @classmethod
    def of(cls, weight: Tensor, weights: WeightFormat) -> Grid:
        """The grid that reaches from the least to the largest weight of each group."""
        weight = weight.float()
        if weights.kind == "row":
            steps = (weight.abs().amax(dim=1, keepdim=True) / 127).clamp(min=_SMALLEST_SCALE)
            return cls(weights, steps, torch.zeros_like(steps))
        grouped = _group(weight, weights)
        if weights.kind == "nf4":
            absmax = grouped.abs().amax(dim=2)
            return cls(weights, absmax, torch.zeros_like(absmax))
        largest = (1 << weights.bits) - 1
        if weights.symmetric:
            # the extreme value lands on -middle exactly, so that no code is wasted
            middle = 1 << (weights.bits - 1)
            extreme = grouped.gather(2, grouped.abs().argmax(dim=2, keepdim=True)).squeeze(2)
            steps = _round_scale(extreme / -middle)
            return cls(weights, steps, torch.full_like(steps, middle))
        low, high = grouped.amin(dim=2).clamp(max=0), grouped.amax(dim=2).clamp(min=0)
        steps = _round_scale((high - low) / largest)
        return cls(weights, steps, (-low / steps).round_().clamp_(0, largest))

    def codes(self, weight: Tensor) -> Tensor:
        """The codes [out, in] of the numbers nearest to `weight`: int8 for "row", else uint8."""
        if self.weights.kind == "row":
            return self.nearest(weight.float(), self.steps, self.zero_points).to(torch.int8)
        grouped = _group(weight.float(), self.weights)
        codes = self.nearest(grouped, self.steps[:, :, None], self.zero_points[:, :, None])
        return codes.to(torch.uint8).flatten(1)[:, : weight.shape[1]]

    def nearest(self, weight: Tensor, steps: Tensor, zero_points: Tensor) -> Tensor:
        """Codes of the numbers nearest to any `weight`, whose steps and zero points are given, as floats."""
        if self.weights.kind == "nf4":
            values = torch.tensor(NF4_VALUES)
            # multiplied by the reciprocal, not divided: as bitsandbytes rounds
            scaled = (weight * (1.0 / steps.clamp(min=1e-38))).clamp_(-1, 1)
            return torch.bucketize(scaled, (values[:-1] + values[1:]) / 2, out_int32=True).float()
        lowest, highest = (-127, 127) if self.weights.kind == "row" else (0, (1 << self.weights.bits) - 1)
        return (weight / steps).round_().add_(zero_points).clamp_(lowest, highest)

    def numbers(self, codes: Tensor, steps: Tensor, zero_points: Tensor) -> Tensor:
        """The numbers that `codes` (floats) stand for."""
        if self.weights.kind == "nf4":
            return torch.tensor(NF4_VALUES)[codes.int()] * steps
        return (codes - zero_points) * steps

    def dequantize(self, codes: Tensor) -> Tensor:
        """The weights [out, in], fp32, that `codes` [out, in] stand for."""
        if self.weights.kind == "row":
            return self.numbers(codes.float(), self.steps, self.zero_points)
        grouped = _group(codes.float(), self.weights)
        return self.numbers(grouped, self.steps[:, :, None], self.zero_points[:, :, None]).flatten(1)[
            :, : codes.shape[1]
        ]

    def encode(self, codes: Tensor) -> Arrays:
        """The stored parameters, by their last name, of a matrix with these `codes` [out, in]."""
        if self.weights.kind == "row":
            stored = codes if self.weights.table else codes.T
            return {"weight": stored.contiguous().numpy(), "scales": self.steps.squeeze(1).numpy()}
        if self.weights.kind == "nf4":
            pairs = codes.reshape(-1, 2)
            return {"weight": ((pairs[:, 0] << 4) | pairs[:, 1]).numpy(), "absmax": self.steps.reshape(-1).numpy()}
        outputs, groups = self.steps.shape
        padding = groups * self.weights.block_size - codes.shape[1]
        if padding:
            rest = self.zero_points[:, -1:].to(torch.uint8).expand(outputs, padding)  # stands for 0
            codes = torch.cat([codes, rest], dim=1)
        arrays: Arrays = {
            "weight": _pack(codes.reshape(outputs, groups, -1), self.weights.bits).numpy(),
            "scales": self.steps.to(torch.float16).numpy(),
        }
        if not self.weights.symmetric:
            arrays["zero_points"] = _pack(self.zero_points.to(torch.uint8), self.weights.bits).numpy()
        return arrays


def encode_linear(weight: Tensor, weights: WeightFormat) -> Arrays:
    """The parameters of a matrix rounded to nearest, by their last name: weight, scales, zero_points, absmax."""
    if weights.kind == "float":
        return _encode_floats(weight, weights)
    grid = Grid.of(weight, weights)
    return grid.encode(grid.codes(weight))


def round_weights(weight: Tensor, weights: WeightFormat) -> Tensor:
    """The numbers, fp32 [out, in], that the parameters of `encode_linear` stand for."""
    if weights.kind == "float":
        return torch.from_numpy(_encode_floats(weight, weights)["weight"]).float()
    grid = Grid.of(weight, weights)
    return grid.dequantize(grid.codes(weight))


def encode_embedding(weight: Tensor, weights: WeightFormat) -> Arrays:
    """The parameters of a lookup table [rows, width], by their last name."""
    if weights.kind == "float":
        return _encode_floats(weight, weights)
    rows, width = weight.shape
    arrays = encode_linear(weight, weights)
    arrays["weight"] = arrays["weight"].reshape(rows, -1)[:, : width * weights.bits // 8]
    return arrays


def _encode_floats(weight: Tensor, weights: WeightFormat) -> Arrays:
    if weights.bits == 32:
        return {"weight": weight.float().contiguous().numpy()}
    return {"weight": weight.float().clamp(-_LARGEST_HALF, _LARGEST_HALF).to(torch.float16).contiguous().numpy()}


def _group(weight: Tensor, weights: WeightFormat) -> Tensor:
    """[out, in] as [out, groups, block_size]; the last group is filled with zeros."""
    groups = weights.blocks(weight.shape[1])
    padded = F.pad(weight, (0, groups * weights.block_size - weight.shape[1]))
    return padded.reshape(len(padded), groups, weights.block_size)


def _round_scale(scale: Tensor) -> Tensor:
    """`scale` as fp16 will hold it, never zero and never infinite; its sign is kept."""
    rounded = scale.clamp(-_LARGEST_HALF, _LARGEST_HALF).to(torch.float16).float()
    return torch.where(rounded == 0, torch.full_like(rounded, _SMALLEST_SCALE), rounded)


def _pack(codes: Tensor, bits: int) -> Tensor:
    """4-bit codes [..., n] lie two in a byte, the first in the low half; an odd row ends in an empty half."""
    if bits == 8:
        return codes.contiguous()
    even = F.pad(codes, (0, codes.shape[-1] % 2))
    return (even[..., 0::2] | (even[..., 1::2] << 4)).contiguous()

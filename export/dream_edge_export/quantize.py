"""Round matrices to nearest, in the layouts that the graph's operators read.

Every function takes weights [out, in] as PyTorch holds them and gives NumPy arrays named as the graph's parameters.
The scale is rounded to its stored type first and the weights are then rounded against that very scale.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dream_edge_runtime.recipe import WeightFormat

Arrays = dict[str, NDArray[np.generic]]

# Dettmers et al., "QLoRA" (arXiv 2305.14314), appendix E: quantiles of the normal distribution, scaled to [-1, 1].
NF4_VALUES = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip

_SMALLEST_SCALE = float(np.finfo(np.float16).smallest_subnormal)
_LARGEST_HALF = float(np.finfo(np.float16).max)


def encode_linear(weight: Tensor, weights: WeightFormat) -> Arrays:
    """The parameters of a matrix product, by their last name: weight, scales, zero_points, absmax."""
    if weights.kind == "float":
        return _encode_floats(weight, weights)
    if weights.kind == "row":
        return _encode_columns(weight)
    return _encode_nf4(weight, weights) if weights.kind == "nf4" else _encode_blocks(weight, weights)


def encode_embedding(weight: Tensor, weights: WeightFormat) -> Arrays:
    """The parameters of a lookup table [rows, width], by their last name."""
    if weights.kind == "float":
        return _encode_floats(weight, weights)
    rows, width = weight.shape
    arrays = _encode_blocks(weight, weights)
    arrays["weight"] = arrays["weight"].reshape(rows, -1)[:, : width * weights.bits // 8]
    return arrays


def _encode_floats(weight: Tensor, weights: WeightFormat) -> Arrays:
    if weights.bits == 32:
        return {"weight": weight.float().contiguous().numpy()}
    return {"weight": weight.float().clamp(-_LARGEST_HALF, _LARGEST_HALF).to(torch.float16).contiguous().numpy()}


def _encode_columns(weight: Tensor) -> Arrays:
    """int8 [in, out] in [-127, 127] and one fp32 scale for each output."""
    scale = (weight.float().abs().amax(dim=1) / 127).clamp(min=_SMALLEST_SCALE)
    rounded = (weight.float() / scale[:, None]).round_().to(torch.int8)
    return {"weight": rounded.T.contiguous().numpy(), "scales": scale.numpy()}


def _encode_blocks(weight: Tensor, weights: WeightFormat) -> Arrays:
    """Groups of unsigned integers [out, groups, bytes]; 4-bit values lie two in a byte, the first in the low half."""
    groups = weights.blocks(weight.shape[1])
    padded = F.pad(weight.float(), (0, groups * weights.block_size - weight.shape[1]))
    grouped = padded.reshape(len(padded), groups, weights.block_size)
    middle, largest = 1 << (weights.bits - 1), (1 << weights.bits) - 1
    if weights.symmetric:
        # the extreme value lands on -middle exactly, so that no code is wasted
        extreme = grouped.gather(2, grouped.abs().argmax(dim=2, keepdim=True))
        scale = _stored_scale(extreme / -middle)
        zero_point = torch.full_like(scale, middle)
    else:
        low, high = grouped.amin(dim=2, keepdim=True).clamp(max=0), grouped.amax(dim=2, keepdim=True).clamp(min=0)
        scale = _stored_scale((high - low) / largest)
        zero_point = (-low / scale).round_().clamp_(0, largest)
    codes = (grouped / scale).round_().add_(zero_point).clamp_(0, largest).to(torch.uint8)
    arrays: Arrays = {
        "weight": _pack(codes, weights.bits).numpy(),
        "scales": scale.squeeze(2).to(torch.float16).numpy(),
    }
    if not weights.symmetric:
        arrays["zero_points"] = _pack(zero_point.squeeze(2).to(torch.uint8), weights.bits).numpy()
    return arrays


def _encode_nf4(weight: Tensor, weights: WeightFormat) -> Arrays:
    """The very bytes of bitsandbytes: two codes in a byte, the first in the high half; an fp32 absmax a block."""
    blocks = weight.float().reshape(-1, weights.block_size)
    absmax = blocks.abs().amax(dim=1)
    values = torch.tensor(NF4_VALUES)
    midpoints = (values[:-1] + values[1:]) / 2
    # multiplied by the reciprocal, not divided: as bitsandbytes rounds
    scaled = (blocks * (1.0 / absmax.clamp(min=1e-38))[:, None]).clamp_(-1, 1)
    codes = torch.bucketize(scaled, midpoints, out_int32=True).to(torch.uint8).reshape(-1)
    return {"weight": ((codes[0::2] << 4) | codes[1::2]).numpy(), "absmax": absmax.numpy()}


def _stored_scale(scale: Tensor) -> Tensor:
    """`scale` as fp16 will hold it, never zero and never infinite; its sign is kept."""
    rounded = scale.clamp(-_LARGEST_HALF, _LARGEST_HALF).to(torch.float16).float()
    return torch.where(rounded == 0, torch.full_like(rounded, _SMALLEST_SCALE), rounded)


def _pack(codes: Tensor, bits: int) -> Tensor:
    """Codes [..., n] as bytes [..., n * bits / 8]; an odd 4-bit row ends in an empty half."""
    if bits == 8:
        return codes.contiguous()
    even = F.pad(codes, (0, codes.shape[-1] % 2))
    return (even[..., 0::2] | (even[..., 1::2] << 4)).contiguous()

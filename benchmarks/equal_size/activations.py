"""How each program rounds the inputs of its matrix products, as hooks of the reference network.

Weights alone do not decide what a user gets: nearly every fast kernel rounds activations to 8 bits as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Rounding = Callable[[Tensor], Tensor]

# llama.cpp's processor kernels (ggml-cpu, `vec_dot_type`): these weights meet activations in Q8_0, all K-quants in Q8_K
_IN_GROUPS_OF_32 = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


def of_gguf_type(stored: str) -> Rounding | None:
    """What a matrix of this type does to its inputs; None for floating-point ones."""
    if stored.startswith(("F", "BF")):
        return None
    return q8_0 if stored in _IN_GROUPS_OF_32 else q8_k


def q8_0(x: Tensor) -> Tensor:
    """Groups of 32 with an fp16 scale: largest magnitude / 127."""
    groups = x.reshape(*x.shape[:-1], -1, 32)
    step = groups.abs().amax(dim=-1, keepdim=True) / 127
    codes = (groups / step.clamp(min=1e-30)).round()
    return (codes * step.half().float()).reshape(x.shape)


def in_groups(size: int) -> Rounding:
    """Groups of `size` with an fp32 scale, as MatMulNBits rounds them; a last group may be shorter."""

    def rounded(x: Tensor) -> Tensor:
        width = x.shape[-1]
        groups = F.pad(x, (0, -width % size)).reshape(*x.shape[:-1], -1, size)
        step = groups.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
        return ((groups / step).round() * step).reshape(*x.shape[:-1], -1)[..., :width]

    return rounded


def q8_k(x: Tensor) -> Tensor:
    """Groups of 256 with an fp32 scale; the value of the largest magnitude becomes -127."""
    groups = x.reshape(*x.shape[:-1], -1, 256)
    extreme = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
    step = -extreme / 127
    step = torch.where(step == 0, torch.ones_like(step), step)
    return ((groups / step).round().clamp(max=127) * step).reshape(x.shape)


def by_row(x: Tensor, threshold: float = torch.inf) -> Tensor:
    """Rows with a scale each; columns where any row exceeds `threshold` stay as they are (LLM.int8)."""
    flat = x.reshape(-1, x.shape[-1])
    apart = (flat.abs() > threshold).any(dim=0)
    inside = flat.masked_fill(apart, 0)
    step = inside.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 127
    return torch.where(apart, flat, (inside / step).round() * step).reshape(x.shape)


def round_inputs(network: nn.Module, roundings: Mapping[str, Rounding | None]) -> None:
    """Round what goes into the linear layers named in `roundings`."""
    modules = dict(network.named_modules())
    for name, rounding in roundings.items():
        if rounding is not None:
            modules[name].register_forward_pre_hook(lambda _, inputs, rounding=rounding: (rounding(inputs[0]),))

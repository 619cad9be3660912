"""Fold scales of channels from activations into weights, where the network computes the same afterwards.

Xiao et al., "SmoothQuant" (arXiv 2211.10438), section 4: dividing a channel of an input by s and multiplying the
matrix's column by s changes nothing but how hard either is to round. What divides is always a weight already there:
the γ of the norm before q, k, v and before gate and up; the rows of up before down; the rows and the bias of v before
o, one scale for all query heads that share a key-value head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..reference import MLP, Attention

STRENGTH = 0.5
"""α of the paper: how much of the difficulty moves from activations to weights."""

_LEAST, _MOST = 1e-3, 1e3  # of a scale, whose mean is 1: outliers in trained networks are far from it


@dataclass
class Activity:
    """The largest magnitude and the sum of squares of each channel of what was seen."""

    largest: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))

    def see(self, inputs: Tensor) -> None:
        """inputs: [..., channels]"""
        flat = inputs.flatten(0, -2)
        self.largest = torch.maximum(self.largest, flat.abs().amax(dim=0))
        self.squares = self.squares + flat.square().sum(dim=0)

    def divided(self, scales: Tensor) -> Activity:
        """As if every channel had been divided by its scale."""
        return Activity(self.largest / scales, self.squares / scales.square())


def smoothing(largest_input: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """What to divide each channel by [in]: max|x|^α / max|w|^(1-α), equation 4 of the paper, of geometric mean 1.

    1 for a channel that is always 0 or that nothing reads.
    """
    largest_weight = torch.stack([matrix.abs().amax(dim=0) for matrix in matrices]).amax(dim=0)
    used = (largest_input > 0) & (largest_weight > 0)
    logs = STRENGTH * largest_input.log() - (1 - STRENGTH) * largest_weight.log()
    logs = torch.where(used, logs, torch.zeros_like(logs))
    logs = torch.where(used, logs - logs.sum() / used.sum().clamp(min=1), logs)
    return logs.exp().clamp(_LEAST, _MOST)


def fold_into_norm(norm: nn.RMSNorm, readers: Sequence[nn.Linear], scales: Tensor) -> None:
    """Divide what `norm` puts out by `scales` [hidden]; `readers` make up for it."""
    _replace(norm, norm.weight / scales)
    for reader in readers:
        _replace(reader, reader.weight * scales)


def fold_into_up(mlp: MLP, scales: Tensor) -> None:
    """Divide what down_proj gets by `scales` [intermediate]."""
    _replace(mlp.up_proj, mlp.up_proj.weight / scales[:, None])
    _replace(mlp.down_proj, mlp.down_proj.weight * scales)


def fold_into_value(attention: Attention, scales: Tensor) -> None:
    """Divide the values by `scales` [kv_heads * head_dim], and with them what o_proj gets."""
    values, output = attention.v_proj, attention.o_proj
    _replace(values, values.weight / scales[:, None])
    values.bias = nn.Parameter(values.bias / scales, requires_grad=False)
    _replace(output, output.weight * shared_by_queries(scales, attention))


def shared_by_queries(scales: Tensor, attention: Attention) -> Tensor:
    """[kv_heads * head_dim] as what o_proj gets has it: [heads * head_dim]."""
    heads = scales.view(-1, 1, attention.head_dim)
    repeats = attention.o_proj.in_features // len(scales)
    return heads.expand(-1, repeats, -1).reshape(-1)


def largest_by_value(largest_input: Tensor, attention: Attention) -> Tensor:
    """Of o_proj's inputs [heads * head_dim], the largest that stem from each channel of v_proj."""
    kv_heads = attention.v_proj.out_features // attention.head_dim
    return largest_input.view(kv_heads, -1, attention.head_dim).amax(dim=1).flatten()


def _replace(module: nn.RMSNorm | nn.Linear, weight: Tensor) -> None:
    module.weight = nn.Parameter(weight, requires_grad=False)

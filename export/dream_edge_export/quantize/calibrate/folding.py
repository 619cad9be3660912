"""Fold scales of channels from activations into weights, where the network computes the same afterwards.

Xiao et al., "SmoothQuant" (arXiv 2211.10438), section 4: dividing a channel of an input by s and multiplying the
matrix's column by s changes nothing but how hard either is to round. What divides is always a weight already there:
the γ of the norm before q, k, v and before gate and up; the rows of up before down; the rows and a bias of v before
o, one scale for all query heads that share a key-value head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dream_edge_runtime.format.recipe import WeightFormat

from ...reference.model import MLP, Attention

ROW_STRENGTH, STRENGTH = 0.65, 0.0
"""α of the paper: how much of the difficulty moves from activations to weights.

Where activations are quantized by row, they are the harder part. Where they are not, the columns are made alike, since
those of a group share a step; which of them matter more, GPTQ knows better.
"""

_LEAST, _MOST = 1e-3, 1e3  # of a scale, whose mean is 1: outliers in trained networks are far from it


def choose_strength(*readers: WeightFormat) -> float:
    """The α for matrices of these formats."""
    return ROW_STRENGTH if any(each.kind == "row" for each in readers) else STRENGTH


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

    def divide(self, scales: Tensor) -> Activity:
        """As if every channel had been divided by its scale."""
        return Activity(self.largest / scales, self.squares / scales.square())


def find_scales(largest_input: Tensor, matrices: Sequence[Tensor], strength: float) -> Tensor:
    """Find what to divide each channel by [in]: x^α / w^(1-α), of geometric mean 1; equation 4 of the paper.

    x is the largest input of the channel; w the root mean square of its column, where each row counts in units of its
    own, since it has steps of its own. 1 for a channel that is always 0 or that nothing reads.
    """
    rows = torch.cat([*matrices])
    units = rows.square().mean(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    columns = (rows.square() / units).mean(dim=0).sqrt()
    used = (largest_input > 0) & (columns > 0)
    logs = strength * largest_input.log() - (1 - strength) * columns.log()
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
    if values.bias is not None:
        values.bias = nn.Parameter(values.bias / scales, requires_grad=False)
    _replace(output, output.weight * repeat_for_queries(scales, attention))


def repeat_for_queries(scales: Tensor, attention: Attention) -> Tensor:
    """[kv_heads * head_dim] as what o_proj gets has it: [heads * head_dim]."""
    heads = scales.view(-1, 1, attention.head_dim)
    repeats = attention.o_proj.in_features // len(scales)
    return heads.expand(-1, repeats, -1).reshape(-1)


def group_by_value(largest_input: Tensor, attention: Attention) -> tuple[Tensor, list[Tensor]]:
    """Group by channel of v_proj: the largest input of o_proj, and o_proj's columns, one set a query head."""
    kv_heads, head_dim = attention.v_proj.out_features // attention.head_dim, attention.head_dim
    columns = attention.o_proj.weight.view(attention.o_proj.out_features, kv_heads, -1, head_dim)
    sets = columns.transpose(1, 2).flatten(2).unbind(1)
    return largest_input.view(kv_heads, -1, head_dim).amax(dim=1).flatten(), [*sets]


def _replace(module: nn.RMSNorm | nn.Linear, weight: Tensor) -> None:
    module.weight = nn.Parameter(weight, requires_grad=False)

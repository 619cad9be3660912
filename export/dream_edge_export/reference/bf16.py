"""The reference as PyTorch runs it in bf16: fp32 arithmetic, each result rounded to the 8 bits that bf16 keeps.

A bf16 matrix product multiplies exactly, adds up in fp32 and rounds once; weights of a published Dream are bf16 as
they are. So rounding what goes into and comes out of every matrix and normalisation gives bf16's activations on any
processor at the speed of fp32, where bf16 itself is several times slower on one without instructions for it. What is
left out are the roundings between: of the rotated queries and keys, of sums inside attention, of the residual stream
after attention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Rounding = Callable[[Tensor], Tensor]
"""Gives each value as a coarser format holds it."""


def round_to_bf16(values: Tensor) -> Tensor:
    """The nearest bf16 numbers, in fp32."""
    return values.to(torch.bfloat16).to(torch.float32)


def round_activations(network: nn.Module, rounding: Rounding = round_to_bf16) -> None:
    """From now on the matrices and normalisations of `network` round what they take and what they give."""

    def inputs(_module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(rounding(each) for each in given)

    def output(_module: nn.Module, _given: tuple[Any, ...], result: Tensor) -> Tensor:
        return rounding(result)

    for module in network.modules():
        if isinstance(module, nn.Linear | nn.RMSNorm):
            module.register_forward_pre_hook(inputs)
            module.register_forward_hook(output)

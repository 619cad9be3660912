"""Changes of single logits before a token is drawn: ends held back, tokens that must not come up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..inference.network import Rows
from .canvas import Canvas
from .schedule import Timestep

NEVER = -1e9
"""Leaves a token no probability at all in fp32."""


class LogitBias(Protocol):
    """Added to the logit of one token, in all rows of a step, before temperature and filters."""

    @property
    def token(self) -> int: ...

    def amount(self, canvas: Canvas, row: int, timestep: Timestep) -> float:
        """How much at this step of sequence `row`; 0 = leave it."""
        ...


_LEAST = np.finfo(np.float32).tiny  # of which there is a logarithm; an eps may be less


@dataclass(frozen=True)
class EosPenalty:
    """weight · log(1 - t + eps) for the end of text: much at the start, next to nothing at the end.

    Dream-Coder's `eos_penalty` (arXiv 2509.01142), which upstream gives to the token that pads. Its time is that of the
    schedule. Where more is revealed than the schedule grants, or blocks have schedules of their own, that would hold
    back the end for good; the time is then the share of the sequence that is masked, which the schedule follows.
    """

    token: int
    weight: float
    eps: float
    scheduled: bool
    """Whether the time is the schedule's."""

    def amount(self, canvas: Canvas, row: int, timestep: Timestep) -> float:
        time = timestep.time if self.scheduled else np.float32(canvas.masked_share(row))
        passed = np.float32(1) - time + np.float32(self.eps)
        return self.weight * float(np.log(max(passed, _LEAST)))


@dataclass(frozen=True)
class Forbidden:
    """A token that cannot be used."""

    token: int

    def amount(self, canvas: Canvas, row: int, timestep: Timestep) -> float:
        return NEVER


def apply_biases(
    rows: Rows, biases: Sequence[LogitBias], canvas: Canvas, row: int, timestep: Timestep, temperature: float
) -> Rows:
    """Add all `biases` to `rows`. The full logits are fetched where there is anything to change: what a token gains
    or loses changes the probability of all others.
    """
    amounts = {bias.token: bias.amount(canvas, row, timestep) for bias in biases}
    if not any(amounts.values()):
        return rows
    logits = rows.fetch_logits().copy()
    for token, amount in amounts.items():
        logits[:, token] += np.float32(amount)
    return replace(Rows.from_logits(logits, temperature), fresh=rows.fresh)

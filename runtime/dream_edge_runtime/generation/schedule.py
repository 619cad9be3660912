"""The noise schedule: which share of the masks each denoising step is to reveal.

Time runs linearly from 1 to eps. A step from time t to s reveals each masked position with probability 1 - s/t, as in
masked diffusion with a linear schedule (MDLM, arXiv 2406.07524). Everything is computed as PyTorch does upstream, in
fp32, since the counts of later steps are truncated from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray
from ..errors import InvalidOption


@dataclass(frozen=True)
class Moment:
    """One step of the schedule."""

    index: int
    """Which step, from 0."""
    steps: int
    share: np.float32
    """1 - s/t: the part of the masks to reveal; 1 at the last step."""
    time: np.float32 = np.float32(1)  # noqa: RUF009 - a number, so it can be shared
    """t: where the step begins, from 1 at the start down to eps."""

    @property
    def last(self) -> bool:
        return self.index == self.steps - 1

    def quota(self, masked: int) -> int:
        """How many of `masked` positions are to be revealed at this step."""
        return masked if self.last else int(np.float32(masked) * self.share)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`steps` denoising steps, time running from 1 to `eps`."""

    steps: int
    eps: float = 1e-3

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InvalidOption("steps", self.steps, "must be an integer of at least 1")
        if not 0 < self.eps < 1:
            raise InvalidOption("eps", self.eps, "must lie in (0, 1)")

    def __iter__(self) -> Iterator[Moment]:
        times = linspace_to(self.eps, self.steps + 1)
        shares = np.float32(1) - times[1:] / times[:-1]
        shares[-1] = 1
        return (Moment(index, self.steps, share, times[index]) for index, share in enumerate(shares))


def linspace_to(eps: float, count: int) -> FloatArray:
    """fp32 [count] from 1 down to `eps`, rounded as `torch.linspace(1, eps, count)` rounds it.

    PyTorch counts up from the start in the first half and down from the end in the second, with a step that is rounded
    to fp32, in one fused multiply-add (here: double precision, rounded once).
    """
    start, end = np.float32(1), np.float32(eps)
    step = np.float64((end - start) / np.float32(count - 1))
    index = np.arange(count)
    up = start + step * index
    down = end - step * (count - 1 - index)
    times: FloatArray = np.where(index < count // 2, up, down).astype(np.float32)
    return times

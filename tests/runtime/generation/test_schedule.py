"""Which share of the masks each step reveals: on every machine the same, and upstream's but for its last bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dream_edge_runtime.generation.schedule import Schedule
from support.official import EXACT, TIE, TORCH, UNIT, Arithmetic


@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e-2, 0.3, 1 / 3])
@pytest.mark.parametrize("arithmetic", [EXACT, TORCH], ids=["exact", "torch"])
def test_times_run_from_one_to_eps(arithmetic: Arithmetic, eps: float) -> None:
    """PyTorch's differ by up to two roundings of numbers below 1, according to the processor."""
    bits = 0 if arithmetic is EXACT else 2
    for steps in [*range(1, 130), 255, 256, 257, 511, 512, 600, 1000]:
        times = np.array([timestep.time for timestep in Schedule(steps=steps, eps=eps)])
        assert (np.abs(times - arithmetic.linspace(eps, steps + 1)[:-1].numpy()) <= bits * UNIT).all(), steps


@pytest.mark.parametrize("eps", [1e-3, 1 / 3])
@pytest.mark.parametrize("steps", [1, 2, 7, 24, 32, 128, 512])
@pytest.mark.parametrize("arithmetic", [EXACT, TORCH], ids=["exact", "torch"])
def test_quotas_are_those_of_torch_arithmetic(arithmetic: Arithmetic, steps: int, eps: float) -> None:
    """PyTorch's own may differ where the last bits of the times decide whether a whole number is reached."""
    timesteps, masked = arithmetic.linspace(eps, steps + 1), torch.arange(300)
    for timestep in Schedule(steps=steps, eps=eps):
        t, s = timesteps[timestep.index], timesteps[timestep.index + 1]
        wanted = masked.float() if timestep.index == steps - 1 else masked / 1 * (1 - s / t)
        same = torch.tensor([timestep.quota(number) for number in range(300)]) == wanted.long()
        tied = (wanted - wanted.round()).abs() <= masked * TIE * UNIT / t
        assert (same if arithmetic is EXACT else same | tied).all()


@given(steps=st.integers(1, 300), masked=st.integers(1, 300), eps=st.floats(1e-5, 0.9))
def test_every_mask_is_revealed_by_the_last_step_and_none_twice(steps: int, masked: int, eps: float) -> None:
    left = masked
    for timestep in Schedule(steps=steps, eps=eps):
        quota = timestep.quota(left)
        assert 0 <= quota <= left
        left -= quota
    assert left == 0

"""Which share of the masks each step reveals, held to PyTorch's fp32 arithmetic bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dream_edge_runtime.generation.schedule import Schedule, linspace_to
from support.official import linspace


@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e-2, 0.3, 1 / 3])
def test_times_are_those_of_torch(eps: float) -> None:
    for steps in [*range(1, 130), 255, 256, 257, 511, 512, 600, 1000]:
        expected = torch.linspace(1, eps, steps + 1).numpy()
        # without fused multiply-adds PyTorch rounds twice
        bits = 1 if torch.backends.cpu.get_cpu_capability() == "DEFAULT" else 0
        assert (np.abs(linspace_to(eps, steps + 1) - expected) <= bits * np.spacing(expected)).all(), steps
        assert (linspace_to(eps, steps + 1) == linspace(eps, steps + 1).numpy()).all(), steps


@pytest.mark.parametrize("steps", [1, 2, 7, 24, 32, 128, 512])
def test_quotas_are_those_of_torch_arithmetic(steps: int) -> None:
    timesteps = linspace(1e-3, steps + 1)
    for timestep in Schedule(steps=steps):
        t, s = timesteps[timestep.index], timesteps[timestep.index + 1]
        masked = torch.arange(300)
        expected = masked if timestep.index == steps - 1 else (masked / 1 * (1 - s / t)).long()
        assert [timestep.quota(number) for number in range(300)] == expected.tolist()


@given(steps=st.integers(1, 300), masked=st.integers(1, 300), eps=st.floats(1e-5, 0.9))
def test_every_mask_is_revealed_by_the_last_step_and_none_twice(steps: int, masked: int, eps: float) -> None:
    left = masked
    for timestep in Schedule(steps=steps, eps=eps):
        quota = timestep.quota(left)
        assert 0 <= quota <= left
        left -= quota
    assert left == 0

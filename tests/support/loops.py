"""Running the loop and its oracle over the same canvas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.generation.canvas import Canvas, MaskedSequence
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.hooks import NO_HOOKS, Hooks
from dream_edge_runtime.generation.loop import Revealed, SequencePlan, denoise
from dream_edge_runtime.generation.sampling import UniformSource
from dream_edge_runtime.generation.strategies import (
    create_biases,
    create_cache,
    create_reveal,
    create_sampler,
    look_ahead,
    plan_blocks,
)
from dream_edge_runtime.inference.network import Network

from .networks import FakeNetwork
from .official import Official


class Recorded:
    """Random numbers that can be drawn again from the start, by the loop and by the oracle."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self.drawn = 0

    def random(self, size: int, /) -> npt.NDArray[np.float64]:
        self.drawn += size
        return self._generator.random(size)

    def uniform(self, size: int) -> Tensor:
        return torch.from_numpy(self.random(size))


def canvas_of(network: FakeNetwork, prompts: Sequence[Sequence[int]], length: int) -> Canvas:
    config = network.config
    sequences = [MaskedSequence.of([prompt, length], config.mask_token_id) for prompt in prompts]
    return Canvas(sequences, config.mask_token_id, config.pad_token_id, config.shift)


def run_loop(
    network: FakeNetwork,
    prompts: Sequence[Sequence[int]],
    length: int,
    *,
    seed: int = 0,
    hooks: Hooks = NO_HOOKS,
    **options: Any,
) -> list[IntArray]:
    """The canvas [batch, length] after every step."""
    canvas = canvas_of(network, prompts, length)
    config = GenerationConfig(max_new_tokens=length, **options)
    draws = [Recorded(seed + row) for row in range(len(prompts))]
    return [canvas.ids.copy() for _ in denoised(network, canvas, config, draws, hooks)]


def denoised(
    network: Network, canvas: Canvas, config: GenerationConfig, draws: Sequence[UniformSource], hooks: Hooks = NO_HOOKS
) -> Iterator[list[Revealed]]:
    """The steps of the loop that `config` describes."""
    reveals = [create_reveal(config, frozenset({network.config.pad_token_id})) for _ in draws]
    biases, ahead = create_biases(config, network.config), look_ahead(config, frozenset({network.config.pad_token_id}))
    blocks = plan_blocks(config, canvas, network.config)
    plans = [SequencePlan(*each, biases=biases, ahead=ahead) for each in zip(blocks, reveals, draws, strict=True)]
    return denoise(
        create_cache(network, config, canvas), canvas, create_sampler(config), plans, network.config.vocab_size, hooks
    )


def run_official(
    network: FakeNetwork,
    prompts: Sequence[Sequence[int]],
    length: int,
    *,
    seed: int = 0,
    steps: int | None = None,
    algorithm: str = "origin",
    algorithm_temperature: float | None = None,
    **options: Any,
) -> list[IntArray]:
    """The same from the oracle, under the same options."""
    canvas = canvas_of(network, prompts, length)
    official = Official(
        network.config.mask_token_id,
        steps or length,
        pad_token_id=network.config.pad_token_id,
        alg=algorithm,
        alg_temp=algorithm_temperature,
        **options,
    )

    def model(x: Tensor, valid: Tensor | None) -> Tensor:
        assert valid is not None
        return network.logits_of(x, valid)

    with torch.inference_mode():
        official.sample(model, torch.from_numpy(canvas.ids), torch.from_numpy(canvas.valid), Recorded(seed).uniform)
    return [x.numpy() for x in official.history]


def assert_same_steps(actual: Sequence[IntArray], expected: Sequence[IntArray]) -> None:
    """Equal after every step; once nothing is masked the loop may end, and the oracle must not change a thing."""
    assert 0 < len(actual) <= len(expected)
    for step, after in enumerate(expected):
        np.testing.assert_array_equal(actual[min(step, len(actual) - 1)], after, err_msg=f"step {step}")

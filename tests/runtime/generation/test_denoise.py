"""The loop against a plain restatement of the official one, on identical logits: not one token may differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.errors import NonFiniteLogits
from dream_edge_runtime.generation.canvas import Canvas, MaskedSequence
from dream_edge_runtime.generation.config import GenerationConfig
from support.loops import denoised
from support.networks import (
    FakeNetwork,
    random_network,
    reference_network,
    small_config,
    table_network,
    tiny_vocabulary,
)
from support.official import Official

CONFIDENCE = ("maskgit_plus", "topk_margin", "entropy")
FILTERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "top_p": {"top_p": 0.7},
    "top_k": {"top_k": 5},
    "both": {"top_p": 0.9, "top_k": 3},
    "beyond_the_k_best": {"top_p": 0.999, "top_k": 40},
}
CONFIG = tiny_vocabulary()
PROMPT = [3, 1, 4, 1, 5]


def canvases(
    network: FakeNetwork, prompts: list[list[int]], new: int, config: GenerationConfig, draws: list[Any]
) -> list[list[IntArray]]:
    """For each step of the schedule the ids of every sequence, without padding."""
    mask, pad = network.config.mask_token_id, network.config.pad_token_id
    canvas = Canvas([MaskedSequence.of([prompt, new], mask) for prompt in prompts], mask, pad, shift=1)
    found = [[canvas.sequence(row) for row in range(len(prompts))] for _ in denoised(network, canvas, config, draws)]
    return found + found[-1:] * ((config.steps or new) - len(found))


def official(
    network: FakeNetwork,
    prompt: list[int],
    new: int,
    config: GenerationConfig,
    uniform: Callable[[int], Tensor] | None = None,
) -> list[IntArray]:
    mask = network.config.mask_token_id
    oracle = Official(
        mask_token_id=mask,
        steps=config.steps or new,
        alg=config.algorithm,
        eps=config.eps,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
    )

    def model(ids: Tensor, valid: Tensor | None) -> Tensor:
        return network.logits_of(ids, torch.ones_like(ids, dtype=torch.bool) if valid is None else valid)

    with torch.inference_mode():
        oracle.sample(model, torch.tensor([prompt + [mask] * new]), None, uniform)
    return [canvas[0].numpy() for canvas in oracle.history]


def assert_same(found: list[IntArray], expected: list[IntArray]) -> None:
    assert len(found) == len(expected)
    for step, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        assert mine.tolist() == theirs.tolist(), f"step {step}"


def shared(seed: int) -> Callable[[int], Tensor]:
    generator = np.random.default_rng(seed)
    return lambda count: torch.from_numpy(generator.random(count))


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize(("new", "steps"), [(1, 1), (8, 3), (16, 16), (9, 30), (40, 13)])
@pytest.mark.parametrize("alg", CONFIDENCE)
def test_confidence_algorithms_reveal_what_the_official_loop_reveals(
    alg: str, new: int, steps: int, filters: dict[str, Any]
) -> None:
    for seed in range(4):
        network = random_network(CONFIG, seed=seed, k=8)
        config = GenerationConfig(algorithm=alg, steps=steps, **filters)
        found = canvases(network, [PROMPT], new, config, [np.random.default_rng(0)])
        assert_same([step[0] for step in found], official(network, PROMPT, new, config))


@pytest.mark.parametrize("alg", CONFIDENCE)
def test_the_reference_network_is_followed_too(alg: str) -> None:
    network = reference_network(small_config())
    config = GenerationConfig(algorithm=alg, steps=12)
    found = canvases(network, [[7, 300, 12]], 24, config, [np.random.default_rng(0)])
    assert_same([step[0] for step in found], official(network, [7, 300, 12], 24, config))


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize(("new", "steps"), [(1, 1), (8, 3), (16, 16), (9, 30)])
def test_origin_agrees_given_the_same_uniform_draws(new: int, steps: int, temperature: float) -> None:
    for seed in range(4):
        network = random_network(CONFIG, seed=seed, k=8)
        config = GenerationConfig(algorithm="origin", steps=steps, temperature=temperature)
        found = canvases(network, [PROMPT], new, config, [np.random.default_rng(seed)])
        expected = official(network, PROMPT, new, config, shared(seed))
        assert_same([step[0] for step in found], expected)


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("alg", CONFIDENCE)
def test_sampling_agrees_given_the_same_uniform_draws(alg: str, filters: dict[str, Any]) -> None:
    """One draw for each masked position at each step, looked up most probable token first.

    Few steps, so that each reveals something: where the schedule grants nothing the official loop draws all the same.
    """
    for seed in range(4):
        network = random_network(CONFIG, seed=seed, k=8)
        config = GenerationConfig(algorithm=alg, steps=4, temperature=0.8, **filters)
        found = canvases(network, [PROMPT], 12, config, [np.random.default_rng(seed)])
        assert_same([step[0] for step in found], official(network, PROMPT, 12, config, shared(seed)))


@pytest.mark.parametrize("alg", [*CONFIDENCE, "left_to_right"])
def test_batch_of_unequal_prompts_gives_what_each_prompt_gives_alone(alg: str) -> None:
    network = random_network(CONFIG, seed=1)
    config = GenerationConfig(algorithm=alg, steps=7)
    prompts = [[3, 1, 4, 1, 5, 9, 2, 6], [5], [3, 5]]
    together = canvases(network, prompts, 10, config, [np.random.default_rng(row) for row in range(3)])
    for row, prompt in enumerate(prompts):
        alone = canvases(network, [prompt], 10, config, [np.random.default_rng(row)])
        assert_same([step[row] for step in together], [step[0] for step in alone])


def test_left_to_right_reveals_from_the_left() -> None:
    network = random_network(CONFIG)
    found = canvases(network, [PROMPT], 9, GenerationConfig(algorithm="left_to_right", steps=9), [None])
    for (canvas,) in found:
        masked = canvas[len(PROMPT) :] == CONFIG.mask_token_id
        assert (np.diff(masked.astype(int)) >= 0).all()


def test_threshold_reveals_all_that_reach_it_and_always_one() -> None:
    network = random_network(CONFIG, scale=6.0)
    mask, pad = CONFIG.mask_token_id, CONFIG.pad_token_id
    canvas = Canvas([MaskedSequence.of([PROMPT, 20], mask)], mask, pad, shift=1)
    config = GenerationConfig(algorithm="entropy", threshold=0.6, steps=20)
    for step, (revealed,) in enumerate(denoised(network, canvas, config, [np.random.default_rng(0)])):
        assert len(revealed.positions) >= 1
        if len(revealed.positions) > 1 and step < 19:
            assert (np.sort(revealed.probability)[1:] >= np.float32(0.6)).all()
    assert not canvas.masked.any()
    assert network.passes < 20


def test_steps_that_can_reveal_nothing_make_no_pass() -> None:
    network = random_network(CONFIG)
    canvases(network, [PROMPT], 4, GenerationConfig(algorithm="entropy", steps=200), [np.random.default_rng(0)])
    assert network.passes <= 4


def test_only_masked_rows_are_asked_for() -> None:
    network = random_network(CONFIG)
    canvases(network, [PROMPT], 6, GenerationConfig(algorithm="entropy", steps=6, eps=1e-9), [None])
    assert network.rows <= 6 + 6 + 5 + 4 + 3 + 2
    assert network.fetches == 0


def test_positions_drawn_at_a_temperature_follow_the_softmax() -> None:
    """With one reveal a step, the first position is drawn from softmax(confidence / temperature)."""
    network = random_network(CONFIG, seed=4)
    config = GenerationConfig(algorithm="entropy", steps=4, eps=1e-9, algorithm_temperature=0.5)
    mask, pad = CONFIG.mask_token_id, CONFIG.pad_token_id
    logits = network.logits_of(torch.tensor([[*PROMPT, *[mask] * 4]]), torch.ones(1, 9, dtype=torch.bool))[0, 4:8]
    assert mask not in logits.argmax(-1)  # proposing a mask would reveal nothing
    probs = logits.softmax(-1)
    confidence = (probs * (probs + 1e-10).log()).sum(-1).numpy()
    expected = np.exp(confidence / 0.5) / np.exp(confidence / 0.5).sum()
    counts = np.zeros(4)
    for seed in range(2000):
        canvas = Canvas([MaskedSequence.of([PROMPT, 4], mask)], mask, pad, shift=1)
        for (revealed,) in denoised(network, canvas, config, [np.random.default_rng(seed)]):
            if len(revealed.positions):
                counts[revealed.positions[0] - len(PROMPT)] += 1
                break
    chi_square = ((counts - 2000 * expected) ** 2 / (2000 * expected)).sum()
    assert chi_square < 16.3  # 3 degrees of freedom, p = 0.001


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error_with_their_position(value: float) -> None:
    """Scales of NaN that nobody verified: the text would be made of token 0."""
    table = np.zeros((12, CONFIG.vocab_size), np.float32)
    table[8, 3] = value
    with np.errstate(invalid="ignore"), pytest.raises(NonFiniteLogits, match="position 8"):
        canvases(table_network(CONFIG, table), [PROMPT], 7, GenerationConfig(algorithm="entropy"), [None])

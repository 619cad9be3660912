"""Changes of single logits: the penalty of an early end against the official loop, and what it is for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dream_edge
from dream_edge_runtime.generation.canvas import Canvas, MaskedSequence
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.hooks import Hooks
from dream_edge_runtime.generation.logit_bias import EosPenalty, Forbidden, apply_biases
from dream_edge_runtime.generation.schedule import Timestep
from dream_edge_runtime.generation.strategies import create_biases
from dream_edge_runtime.inference.network import Rows
from support.loops import assert_same_steps, run_loop, run_official
from support.networks import (
    FakeNetwork,
    random_network,
    reference_network,
    small_config,
    table_network,
    tiny_vocabulary,
)

CONFIG = tiny_vocabulary()
END = CONFIG.pad_token_id


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.7}, {"top_k": 3}])
@pytest.mark.parametrize(("new", "steps"), [(1, 1), (12, 5), (15, 15)])
@pytest.mark.parametrize("algorithm", ["maskgit_plus", "topk_margin", "entropy"])
def test_penalty_is_that_of_the_official_loop(algorithm: str, new: int, steps: int, filters: dict[str, Any]) -> None:
    for seed, weight in ((0, 0.3), (1, 3.0), (2, 1e-12)):
        options: dict[str, Any] = {"algorithm": algorithm, "steps": steps, "eos_penalty": weight, **filters}
        network = random_network(CONFIG, seed=seed, k=8)
        expected = run_official(network, [[3, 1, 4]], new, **options)
        assert_same_steps(run_loop(network, [[3, 1, 4]], new, **options), expected)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("algorithm", ["origin", "entropy"])
def test_penalty_comes_before_temperature_and_draw(algorithm: str, temperature: float) -> None:
    for seed in range(4):
        network = random_network(CONFIG, seed=seed, k=8)
        options: dict[str, Any] = {"algorithm": algorithm, "temperature": temperature, "steps": 9, "eos_penalty": 2.0}
        expected = run_official(network, [[3, 1]], 14, seed=seed, **options)
        assert_same_steps(run_loop(network, [[3, 1]], 14, seed=seed, **options), expected)


def test_penalty_over_the_reference_network_in_a_padded_batch() -> None:
    prompts = [[5, 6, 7], list(range(100, 117)), [8]]
    options: dict[str, Any] = {"algorithm": "entropy", "steps": 6, "eos_penalty": 3.0}
    network = reference_network(small_config())
    assert_same_steps(run_loop(network, prompts, 12, **options), run_official(network, prompts, 12, **options))


def wants_to_end(new: int) -> FakeNetwork:
    """Everywhere the end of text is a little better than token 7."""
    table = np.zeros((2 + new, CONFIG.vocab_size), np.float32)
    table[:, 7], table[:, END] = 9, 10
    return table_network(CONFIG, table)


def test_penalty_holds_back_the_end_at_the_beginning_only() -> None:
    plain = run_loop(wants_to_end(12), [[1, 2]], 12, algorithm="maskgit_plus")[-1][0, 2:]
    assert (plain == END).all()
    held = run_loop(wants_to_end(12), [[1, 2]], 12, algorithm="left_to_right", eos_penalty=2.0)[-1][0, 2:]
    sevens = int((held == 7).sum())
    assert held.tolist() == [7] * sevens + [END] * (12 - sevens)
    assert sevens == 7  # 2 · log(1 - t) reaches -1 where t falls below 0.4


def test_an_eps_that_vanishes_holds_the_end_back_at_first() -> None:
    held = run_loop(wants_to_end(12), [[1, 2]], 12, algorithm="left_to_right", eos_penalty=2.0, eps=1e-300)
    assert held[-1][0, 2] == 7
    assert held[-1][0, -1] == END


@pytest.mark.parametrize("options", [{"threshold": 1.0}, {"block_length": 3}])
def test_time_is_the_masked_share_where_the_schedule_does_not_tell(options: dict[str, Any]) -> None:
    """By its schedule a threshold's first steps, and those of each block, would never end a text."""
    held = run_loop(wants_to_end(12), [[1, 2]], 12, algorithm="left_to_right", eos_penalty=2.0, **options)
    first = held[0][0, 2:]
    assert (first[first != CONFIG.mask_token_id] == 7).all()
    assert held[-1][0, -1] == END


def test_hooks_see_the_logits_before_the_penalty() -> None:
    seen = []

    def look(_step: int, _ids: Any, _positions: Any, logits: Any) -> Any:
        seen.append(logits[:, END].copy())
        return logits

    run_loop(wants_to_end(3), [[1, 2]], 3, algorithm="entropy", eos_penalty=5.0, hooks=Hooks(logits=look))
    assert all((each == 10).all() for each in seen)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(2, 48), temperature=st.sampled_from([0.0, 0.5, 2.0]))
def test_a_forbidden_token_has_no_part_in_any_row(seed: int, k: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).standard_normal((5, 48)).astype(np.float32) * 4
    rows = apply_biases(Rows.from_logits(logits, temperature, k), [Forbidden(4)], _canvas(), 0, _moment(), temperature)
    scale = temperature or 1.0
    others = np.delete(logits, 4, axis=1).astype(np.float64) / scale
    np.testing.assert_allclose(rows.log_normalizer, np.log(np.exp(others).sum(axis=1)), rtol=1e-5)
    assert not ((rows.top_ids == 4) & (rows.top_probs > 0)).any()
    assert rows.fetch_logits()[:, 4].max() < -1e8
    assert Rows.from_logits(logits, temperature, k).fetch_logits()[:, 4].min() > -100  # the network's are left alone


def test_nothing_is_fetched_where_nothing_changes() -> None:
    rows = Rows.from_logits(np.zeros((2, 48), np.float32), 0.0, 4)
    assert apply_biases(rows, [EosPenalty(END, 0.0, 1e-3, True)], _canvas(), 0, _moment(), 0.0) is rows
    assert create_biases(GenerationConfig(), CONFIG) == ()


def test_checkpoint_may_ask_for_it() -> None:
    config = GenerationConfig.from_checkpoint({"eos_penalty": 3})
    assert config.eos_penalty == 3.0
    assert create_biases(config, CONFIG) == (EosPenalty(END, 3.0, 1e-3, True),)


def test_tiny_is_kept_from_short_answers() -> None:
    model = dream_edge.load("tiny")
    prompt = "What is the capital of France?"
    plain, held = (model.generate(prompt, max_new_tokens=24, eos_penalty=weight) for weight in (0.0, 1000.0))
    end = model.config.pad_token_id
    assert held.token_ids.count(end) < plain.token_ids.count(end)


def _canvas() -> Canvas:
    return Canvas([MaskedSequence.of([[1, 2], 3], CONFIG.mask_token_id)], CONFIG.mask_token_id, END, shift=1)


def _moment() -> Timestep:
    return Timestep(0, 3, np.float32(0.3), np.float32(1))

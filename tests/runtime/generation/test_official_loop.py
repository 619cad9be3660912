"""The loop against the oracle where it is easy to go wrong: padding, ties, hooks, few reduced logits, any options."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.hooks import Hooks
from dream_edge_runtime.generation.sampling import Filters, Greedy, Multinomial
from dream_edge_runtime.inference.network import Rows
from support.loops import Recorded, assert_same_steps, canvas_of, denoised, run_loop, run_official
from support.networks import FakeNetwork, random_network, reference_network, small_config, tiny_vocabulary
from support.official import TIE, UNIT, Choice, Official, units_from_official

CONFIDENT = ("maskgit_plus", "topk_margin", "entropy")
FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"top_p": 0.9},
    {"top_p": 0.3, "top_k": 5},
    {"top_k": 3},
    {"top_k": 1},
    {"top_p": 1e-6},
    {"top_p": 0.999999},
    {"top_k": 1000, "top_p": 1.0},
)


@pytest.fixture(scope="module")
def network() -> FakeNetwork:
    return random_network(tiny_vocabulary())


@pytest.fixture(scope="module")
def reference() -> FakeNetwork:
    return reference_network(small_config())


@pytest.mark.parametrize("algorithm", CONFIDENT)
def test_a_padded_batch_over_the_reference_network(reference: FakeNetwork, algorithm: str) -> None:
    prompts = [[5, 6, 7], list(range(100, 117)), [8]]
    options: dict[str, Any] = {"algorithm": algorithm, "steps": 6}
    assert_same_steps(run_loop(reference, prompts, 12, **options), run_official(reference, prompts, 12, **options))


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("temperature", [0.0, 0.7, 2.5])
@pytest.mark.parametrize("algorithm", [*CONFIDENT, "origin"])
def test_few_best_logits_are_as_good_as_all(algorithm: str, filters: dict[str, Any], temperature: float) -> None:
    config = tiny_vocabulary()
    options: dict[str, Any] = {"algorithm": algorithm, "temperature": temperature, "steps": 9, **filters}
    whole = run_loop(random_network(config, k=48), [[1, 2, 3]], 15, seed=5, **options)
    for k in (2, 4, 16):
        narrow = run_loop(random_network(config, k=k), [[1, 2, 3]], 15, seed=5, **options)
        np.testing.assert_array_equal(narrow, whole)


@pytest.mark.parametrize("k", [3, 4, 5])
def test_ties_may_run_past_the_best_logits(k: int) -> None:
    """top_k=3 keeps every token as good as the third, also those that the network did not return."""
    tied = np.zeros((6, 48), np.float32)
    tied[:, 5:11] = 2
    rows = Rows.from_logits(tied, 1.0, k)
    proposal = Multinomial(temperature=1.0, filters=Filters(top_k=3)).propose(rows, Grid())
    assert proposal.tokens.tolist() == [5, 6, 7, 8, 9, 10]
    np.testing.assert_allclose(proposal.probability, 1 / 6, rtol=1e-6)


class Grid:
    """Evenly spread instead of random: the middle of each of `size` equal parts of [0, 1)."""

    def random(self, size: int, /) -> npt.NDArray[np.float64]:
        return (np.arange(size) + 0.5) / size


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    length=st.integers(1, 30),
    steps=st.integers(1, 40),
    algorithm=st.sampled_from(CONFIDENT),
    top_p=st.none() | st.floats(0.01, 1),
    top_k=st.none() | st.integers(1, 50),
    k=st.integers(2, 48),
    eps=st.floats(1e-6, 0.9),
)
def test_any_options(
    seed: int, length: int, steps: int, algorithm: str, top_p: float | None, top_k: int | None, k: int, eps: float
) -> None:
    network = random_network(tiny_vocabulary(), seed=seed, k=k)
    options: dict[str, Any] = {"algorithm": algorithm, "steps": steps, "top_p": top_p, "top_k": top_k, "eps": eps}
    prompts = [[seed % 40]]
    assert_same_steps(run_loop(network, prompts, length, **options), run_official(network, prompts, length, **options))


@pytest.mark.parametrize("algorithm", [*CONFIDENT, "origin"])
def test_equal_logits_fall_to_the_lowest_position_and_id(algorithm: str) -> None:
    config = tiny_vocabulary()
    rounded = random_network(config)
    exact = rounded.logits_of
    rounded.logits_of = lambda ids, valid: exact(ids, valid).round()
    for filters in FILTERS:
        options: dict[str, Any] = {"algorithm": algorithm, "steps": 5, **filters}
        actual = run_loop(rounded, [[1, 2]], 20, **options)
        assert_same_steps(actual, run_official(rounded, [[1, 2]], 20, **options))


def test_hooks_see_and_change_what_they_do_upstream(network: FakeNetwork) -> None:
    """The logits hook bans a token at even steps; the token hook settles one position and masks another again."""
    prompts, length, mask = [[3, 1, 4]], 12, network.config.mask_token_id
    first = run_official(network, prompts, length, algorithm="entropy", steps=6)
    banned = int(first[-1][0, -1])

    def rewrite(step: int | None, ids: Any) -> Any:
        if step is None:
            ids[7] = 20
        if step == 2:
            ids[4] = mask
        return ids

    def ban(step: int, ids: Any, positions: Any, logits: Any) -> Any:
        assert (ids[positions] == mask).all()
        if step % 2 == 0:
            logits[:, banned] = -1e9
        return logits

    def official_ban(step: int, _: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        if step % 2 == 0:
            logits[..., banned] = -1e9
        return logits

    options: dict[str, Any] = {"algorithm": "entropy", "steps": 6}
    actual = run_loop(network, prompts, length, hooks=Hooks(ban, rewrite), **options)
    expected = run_official(
        network,
        prompts,
        length,
        logits_hook=official_ban,
        tokens_hook=lambda step, x, _: torch.from_numpy(rewrite(step, x[0].numpy().copy()))[None],
        **options,
    )
    assert_same_steps(actual, expected)
    assert (actual[-1] != first[-1]).any()


def test_origin_draws_one_number_a_mask_and_then_the_tokens(network: FakeNetwork) -> None:
    canvas, draws = canvas_of(network, [[1]], 10), Recorded(0)
    config = GenerationConfig(steps=3, temperature=0.5)
    masked = 10
    for (revealed,) in denoised(network, canvas, config, [draws]):
        assert draws.drawn == masked + len(revealed.positions)
        draws.drawn, masked = 0, int(canvas.masked.sum())


@pytest.mark.parametrize("filters", [{"top_k": 20}, {"top_p": 0.95}, {"top_p": 0.9, "top_k": 10}])
def test_nearly_certain_positions_keep_their_order_under_filters(filters: dict[str, Any]) -> None:
    """Their probabilities differ in the last bits only, so filtered ones too must be rounded once."""
    generator = np.random.default_rng(0)
    logits = (generator.standard_normal((2000, 1000)) * 3).astype(np.float32)
    logits[np.arange(2000), generator.integers(0, 1000, 2000)] += np.linspace(5, 25, 2000).astype(np.float32)
    oracle = Official(mask_token_id=0, steps=1, alg="maskgit_plus", **filters)
    proposal = Greedy(filters=Filters(**filters)).propose(Rows.from_logits(logits, 0.0), generator)
    assert proposal.probability.tolist() == oracle.sample_tokens(torch.from_numpy(logits))[0].tolist()
    oracle.alg = "entropy"
    assert proposal.neg_entropy.tolist() == oracle.sample_tokens(torch.from_numpy(logits))[0].tolist()


@pytest.mark.parametrize(
    ("ours", "ties"),
    [
        ([1, 9, 9], True),  # the official choice itself
        ([9, 1, 9], True),  # one rounding less sure
        ([9, 9, 1], False),  # another position
        ([0, 9, 9], False),  # another token
        ([1, 1, 9], True),  # one more, where the number wanted is just below two
        ([1, 1, 1], False),
        ([9, 9, 9], False),
    ],
)
def test_only_what_hangs_on_the_last_bits_is_excused(ours: list[int], ties: bool) -> None:
    mask = 9
    probs = torch.tensor([[0, 1], [UNIT, 1 - UNIT], [0.01, 0.99]])
    choice = Choice(
        masked=torch.ones(1, 3, dtype=torch.bool),
        after=torch.tensor([[1, mask, mask]]),
        wanted=2 - 2 * UNIT,
        confidence=probs[:, 1][None],
        probs=probs,
    )
    assert (units_from_official(choice, torch.tensor([ours]), mask) <= TIE) == ties

"""What counts as sure does not depend on how tokens are drawn."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import dream_edge
from dream_edge.tasks import sudoku
from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.reveal import STRATEGIES
from dream_edge_runtime.generation.sampling import Filters, Judged
from dream_edge_runtime.generation.schedule import Timestep
from dream_edge_runtime.generation.strategies import create_reveal, create_sampler
from dream_edge_runtime.inference.network import Rows
from dream_edge_runtime.model import DreamModel
from support.official import Official, inverse_cdf

MIDDLE = Timestep(1, 4, np.float32(0.5))
DRAWS: list[dict[str, Any]] = [
    {"temperature": 0.1},
    {"temperature": 0.2, "top_p": 0.95},
    {"temperature": 0.7, "top_p": 0.8, "top_k": 20},
    {"temperature": 1.0},
    {"temperature": 1.5, "top_p": 0.9},
    {"temperature": 2.0, "top_k": 3},
]


class Given:
    """Random numbers that are known beforehand."""

    def __init__(self, numbers: NDArray[np.float64]) -> None:
        self.numbers = numbers

    def random(self, size: int, /) -> NDArray[np.float64]:
        return self.numbers[:size]


@pytest.mark.parametrize("scale", [0.5, 3.0])
@pytest.mark.parametrize("k", [2, 8, 64])
@pytest.mark.parametrize("draw", [*DRAWS, {"temperature": 0.7, "top_k": 1}, {"temperature": 0.7, "top_k": 60}], ids=str)
def test_tokens_are_drawn_as_upstream_and_judged_at_temperature_one(draw: dict[str, Any], k: int, scale: float) -> None:
    rng = np.random.default_rng(4)
    logits = (rng.standard_normal((2000, 100)) * scale).astype(np.float32)
    numbers = rng.random(len(logits))
    oracle = Official(mask_token_id=0, steps=1, **draw)
    expected = inverse_cdf(oracle.filtered(torch.from_numpy(logits)), torch.from_numpy(numbers)).numpy()
    judged = torch.from_numpy(logits).softmax(-1).gather(1, torch.from_numpy(expected)[:, None])[:, 0].numpy()

    sampler = Judged(
        draw_temperature=draw["temperature"], filters=Filters(top_p=draw.get("top_p"), top_k=draw.get("top_k"))
    )
    found = sampler.propose(Rows.from_logits(logits, sampler.temperature, k), Given(numbers))

    assert found.judged
    same = found.tokens == expected
    assert same.mean() >= 0.999  # a number that falls on the border of two tokens
    np.testing.assert_allclose(found.judged.probability[same], judged[same], rtol=1e-5)


def test_full_logits_are_fetched_only_where_the_best_do_not_suffice() -> None:
    rng = np.random.default_rng(5)
    logits = (rng.standard_normal((500, 2000)) * 6).astype(np.float32)
    fetched = 0

    def fetch() -> FloatArray:
        nonlocal fetched
        fetched += 1
        return logits[:1]

    for row in range(len(logits)):
        rows = replace(Rows.from_logits(logits[row : row + 1], 0.0), fetch_logits=fetch)
        Judged(draw_temperature=0.7, filters=Filters(top_p=0.8, top_k=20)).propose(rows, rng)
    assert fetched < 25


@pytest.mark.parametrize("filters", [{}, {"top_k": 1}, {"top_p": 0.3}, {"top_p": 0.9, "top_k": 4}], ids=str)
def test_what_is_sure_is_revealed_in_the_order_of_the_official_loop(filters: dict[str, Any]) -> None:
    """Filters change the order, since they make confidences equal; they make nothing sure."""
    logits = (np.random.default_rng(6).standard_normal((40, 60)) * 8).astype(np.float32)
    places, probability = np.arange(0, 80, 2), torch.from_numpy(logits).softmax(-1).amax(-1).numpy()
    found = {}
    for name in ("threshold", "steps"):
        schedule: dict[str, Any] = {name: 0.5 if name == "threshold" else 40}
        config = GenerationConfig(algorithm="maskgit_plus", **schedule, **filters)
        sampler, reveal = create_sampler(config), create_reveal(config)
        rows, draws = Rows.from_logits(logits, sampler.temperature, 8), np.random.default_rng(0)
        last = Timestep(39, 40, np.float32(1)) if name == "steps" else MIDDLE
        found[name] = reveal.choose(sampler.propose(rows, draws), rows, places, last, draws).tolist()
    official = found["steps"]
    sure = list(takewhile(lambda index: probability[index] >= 0.5, official))
    assert found["threshold"] == (sure or official[:1])
    assert (probability >= 0.5).sum() > 1


@pytest.mark.parametrize("name", [name for name, strategy in STRATEGIES.items() if not strategy.as_published])
def test_filters_make_nothing_sure(name: str) -> None:
    """In an order that does not depend on the filters, as many tokens are sure with them as without."""
    rng = np.random.default_rng(6)
    sharp = np.where(np.arange(40) < 6, 100, 8)[:, None]
    rows = Rows.from_logits((rng.standard_normal((40, 60)) * sharp).astype(np.float32), 0.0, 8)
    found = []
    for filters in ({}, {"top_k": 1}, {"top_p": 0.9, "top_k": 4}):
        config = GenerationConfig(reveal=f"{name}:0.5", algorithm="left_to_right", **filters)
        proposal = create_sampler(config).propose(rows, rng)
        found.append(create_reveal(config).choose(proposal, rows, np.arange(0, 80, 2), MIDDLE, rng).tolist())
    assert found[0] == found[1] == found[2]
    assert 1 < len(found[0]) < 40


def test_a_sure_token_waits_for_its_turn() -> None:
    """By the filtered distribution all are certain, and the left one comes first: it is guessed, and the sure one stays
    masked; as does everything where the guess would rest on an earlier pass."""
    logits = np.log(np.array([[0.5, 0.3, 0.2], [0.95, 0.03, 0.02], [0.7, 0.2, 0.1]], np.float32))
    rows, rng = Rows.from_logits(logits, 0.0), np.random.default_rng(0)
    cases: list[tuple[dict[str, Any], bool, list[int]]] = [
        ({}, True, [1]),
        ({"top_k": 1}, True, [0]),
        ({"top_k": 1}, False, []),
    ]
    for options, fresh, expected in cases:
        config = GenerationConfig(threshold=0.9, algorithm="maskgit_plus", **options)
        proposal = create_sampler(config).propose(rows, rng)
        chosen = create_reveal(config).choose(proposal, replace(rows, fresh=fresh), np.arange(3), MIDDLE, rng)
        assert chosen.tolist() == expected


def test_no_bound_of_entropies_hides_an_unsure_first_token() -> None:
    """The bound leaves out the largest entropy; what rests on an earlier pass is not revealed all the same."""
    logits = np.log(np.array([[0.5, 0.3, 0.2], [0.98, 0.01, 0.01], [0.97, 0.02, 0.01]], np.float32))
    rows, rng = Rows.from_logits(logits, 0.0), np.random.default_rng(0)
    config = GenerationConfig(reveal="entropy_bound:0.3", algorithm="maskgit_plus", top_k=1)
    proposal = create_sampler(config).propose(rows, rng)
    for fresh, expected in ((True, [0]), (False, [])):
        chosen = create_reveal(config).choose(proposal, replace(rows, fresh=fresh), np.arange(3), MIDDLE, rng)
        assert chosen.tolist() == expected


def test_where_nothing_is_sure_the_guess_is_the_official_loops() -> None:
    """By the filtered distribution two tokens are certain, and of these the left one comes first."""
    logits = np.log(np.array([[0.5, 0.3, 0.2], [0.6, 0.4, 0], [0.7, 0.2, 0.1]], np.float32) + np.float32(1e-9))
    rows, rng = Rows.from_logits(logits, 0.0), np.random.default_rng(0)
    cases: list[tuple[dict[str, Any], list[int]]] = [({}, [2]), ({"top_p": 0.55}, [1]), ({"top_k": 1}, [0])]
    for options, expected in cases:
        config = GenerationConfig(threshold=0.9, algorithm="maskgit_plus", **options)
        proposal = create_sampler(config).propose(rows, rng)
        assert create_reveal(config).choose(proposal, rows, np.arange(3), MIDDLE, rng).tolist() == expected


@pytest.fixture(scope="module")
def tiny() -> DreamModel:
    return dream_edge.load("tiny", threads=1)


@pytest.mark.parametrize("draw", [*DRAWS[:4], {"top_k": 1}], ids=str)
def test_drawing_tokens_does_not_make_guesses_sure(tiny: DreamModel, draw: dict[str, Any]) -> None:
    """With the probability after temperature and filters a quarter to a third of these would be wrong."""
    cases = sudoku.generate(np.random.default_rng(1), 64, held_out=True)
    prompts = [tiny.tokenizer.encode(case.prompt) for case in cases]
    solved = []
    for preset in ("fast", "exact"):
        texts = tiny.generate_batch(prompts, max_new_tokens=24, seed=3, preset=preset, **draw)
        solved.append(sum(sudoku.solves(case.prompt, each.text) for case, each in zip(cases, texts, strict=True)))
    assert solved[0] >= solved[1] - 3

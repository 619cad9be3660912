"""Strategies that reveal several tokens at once, against their plain restatements and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.reveal import STRATEGIES
from dream_edge_runtime.generation.sampling import Proposal
from dream_edge_runtime.generation.schedule import Timestep
from dream_edge_runtime.generation.strategies import create_reveal
from dream_edge_runtime.inference.network import Rows
from support import parallel
from support.loops import canvas_of, denoised
from support.networks import FakeNetwork, random_network, tiny_vocabulary

KNOBS: dict[str, tuple[float, ...]] = {
    "threshold": (0.05, 0.5, 0.9, 1.0),
    "falling_threshold": (0.05, 0.5, 0.9, 1.0),
    "factor": (0.1, 1.0, 3.0, 40.0),
    "entropy_bound": (0.0, 0.1, 1.0, 20.0),
    "low_confidence": (0.05, 0.5, 0.9, 1.0),
    "count": (1, 2, 3.9, 40),
}
RULES: dict[str, Callable[[float], parallel.Rule]] = {
    "threshold": parallel.threshold,
    "falling_threshold": parallel.falling_threshold,
    "factor": parallel.factor,
    "entropy_bound": parallel.entropy_bound,
    "low_confidence": parallel.low_confidence,
    "count": parallel.count,
}
CASES = [(name, value) for name, values in KNOBS.items() for value in values]
PROMPTS = [[9, 2], [5, 3, 5, 8]]
LAST, MIDDLE = Timestep(3, 4, np.float32(1)), Timestep(1, 4, np.float32(0.5))
RANDOM = np.random.default_rng(0)


def unmaskable(config: ModelConfig, **options: Any) -> FakeNetwork:
    """A random network that never proposes the mask: the restatements know masks by their id."""
    network = random_network(config, **options)
    inner = network.logits_of

    def logits_of(ids: Any, valid: Any) -> Any:
        logits = inner(ids, valid).clone()
        logits[..., config.mask_token_id] = -100
        return logits

    network.logits_of = logits_of
    return network


def steps_of(network: FakeNetwork, prompts: list[list[int]], length: int, **options: Any) -> list[list[list[int]]]:
    """For each sequence, its ids after every step that it took."""
    canvas = canvas_of(network, prompts, length)
    config = GenerationConfig(max_new_tokens=length, **options)
    found: list[list[list[int]]] = [[] for _ in prompts]
    for revealed in denoised(network, canvas, config, [np.random.default_rng(row) for row in range(len(prompts))]):
        for each in revealed:
            found[each.row].append(canvas.sequence(each.row).tolist())
    return found


def test_every_strategy_has_its_restatement() -> None:
    assert tuple(KNOBS) == tuple(RULES) == tuple(STRATEGIES)


@pytest.mark.parametrize(
    "plan",
    [
        {"algorithm": "maskgit_plus"},
        {"algorithm": "entropy", "steps": 4},
        {"algorithm": "topk_margin", "block_length": 6},
        {"algorithm": "left_to_right", "block_length": 5, "steps": 9},
    ],
    ids=str,
)
@pytest.mark.parametrize(("name", "value"), CASES)
def test_every_step_is_that_of_the_restatement(name: str, value: float, plan: dict[str, Any]) -> None:
    for seed, scale in ((0, 3.0), (1, 9.0)):
        network = unmaskable(tiny_vocabulary(), seed=seed, scale=scale, k=8)
        found = steps_of(network, PROMPTS, 13, reveal=f"{name}:{value}", **plan)
        plainly: dict[str, Any] = {**plan, "echoes": STRATEGIES[name].as_published}
        for prompt, steps in zip(PROMPTS, found, strict=True):
            assert steps == parallel.denoise_in_parallel(network, prompt, 13, lambda: RULES[name](value), **plainly)


# --- by hand ---------------------------------------------------------------------------------------------------------


def proposal(probability: list[float], entropy: list[float] | None = None, tokens: list[int] | None = None) -> Proposal:
    count = len(probability)
    probs = np.array(probability, np.float32)
    negative: FloatArray = -np.array(entropy or [0.5] * count, np.float32)
    return Proposal(np.array(tokens or range(count)), probs, probs * np.float32(0.5), negative)


def rows_of(probability: list[float], others: int = 3) -> Rows:
    """Distributions whose best token has these probabilities; the others share what is left."""
    best = np.clip(np.array(probability, np.float64), 1e-6, 1 - 1e-6)[:, None]
    rest = np.repeat((1 - best) / others, others, axis=1)
    return Rows.from_logits(np.log(np.concatenate([best, rest], axis=1)).astype(np.float32), 0.0)


def chosen(look: Proposal, timestep: Timestep = MIDDLE, *, at: list[int] | None = None, **options: Any) -> list[int]:
    reveal = create_reveal(GenerationConfig(**options), frozenset({99}))
    positions = np.array(at or range(10, 10 + len(look.tokens)))
    rows = rows_of([float(each) for each in look.probability])
    return [int(each) for each in reveal.choose(look, rows, positions, timestep, RANDOM)]


@pytest.mark.parametrize(
    ("factor", "expected"),
    [  # (n + 1)(1 - c): 2 · 0.01, 3 · 0.05, 4 · 0.1, 5 · 0.5
        (0.001, [2]),
        (0.021, [2]),
        (0.16, [2, 0]),
        (0.41, [2, 0, 3]),
        (2.4, [2, 0, 3]),
        (2.6, [2, 0, 3, 1]),
    ],
)
def test_factor_by_hand(factor: float, expected: list[int]) -> None:
    assert chosen(proposal([0.95, 0.5, 0.99, 0.9]), reveal=f"factor:{factor}") == expected


def test_factor_asks_for_the_least_sure_of_a_prefix_in_any_order() -> None:
    look = proposal([0.5, 0.99, 0.99])
    assert chosen(look, reveal="factor:1", algorithm="left_to_right") == [0]
    assert chosen(look, reveal="factor:1.6", algorithm="left_to_right") == [0, 1]


@pytest.mark.parametrize(
    ("bound", "expected"),
    [(0.0, [1]), (0.05, [1]), (0.11, [1, 3]), (0.29, [1, 3]), (0.31, [1, 3, 0]), (1.0, [1, 3, 0, 2])],
)
def test_entropy_bound_by_hand(bound: float, expected: list[int]) -> None:
    """Entropies in order: 0.1, 0.2, 0.4, 2; without the largest of each prefix 0, 0.1, 0.3, 0.7."""
    look = proposal([0.8, 0.97, 0.2, 0.9], entropy=[0.4, 0.1, 2.0, 0.2])
    assert chosen(look, reveal=f"entropy_bound:{bound}", algorithm="entropy") == expected


@pytest.mark.parametrize(
    ("tokens", "probability", "expected"),
    [
        ([7, 7, 8], [0.6, 0.8, 0.7], [1, 2]),  # the surer of the two
        ([7, 8, 7], [0.6, 0.8, 0.7], [1, 2, 0]),  # no neighbours
        ([7, 7, 7], [0.6, 0.8, 0.7], [1]),
        ([7, 7, 7], [0.9, 0.8, 0.7], [0]),
        ([99, 99, 99], [0.6, 0.8, 0.7], [1, 2, 0]),  # the end of a text
        ([7, 7, 7], [0.6, 0.6, 0.6], [0]),  # a tie falls to the lowest position
    ],
)
def test_of_neighbours_with_one_token_the_surer_is_revealed(
    tokens: list[int], probability: list[float], expected: list[int]
) -> None:
    look = proposal(probability, tokens=tokens)
    assert chosen(look, threshold=0.5) == expected
    assert sorted(chosen(look, LAST, threshold=0.5)) == [0, 1, 2]
    assert sorted(chosen(look, threshold=0.5, at=[4, 6, 8])) == [0, 1, 2]


def test_the_official_schedule_may_repeat() -> None:
    look = proposal([0.6, 0.8, 0.7, 0.1], tokens=[7, 7, 7, 7])
    assert chosen(look, algorithm="maskgit_plus") == [1, 2]


# --- properties ------------------------------------------------------------------------------------------------------

PROBABILITIES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12)


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=60, deadline=None)
@given(probability=PROBABILITIES, data=st.data())
def test_at_least_one_and_everything_at_the_last_step(name: str, probability: list[float], data: st.DataObject) -> None:
    count = len(probability)
    entropy = data.draw(st.lists(st.floats(0, 10, width=32), min_size=count, max_size=count))
    within = STRATEGIES[name].within
    options: dict[str, Any] = {"reveal": f"{name}:{data.draw(st.floats(max(1e-6, within.low), min(within.high, 100)))}"}
    look = proposal(probability, entropy)
    some, everything = (chosen(look, timestep, **options) for timestep in (MIDDLE, LAST))
    assert 1 <= len(some) == len(set(some)) <= count
    assert sorted(everything) == list(range(count))
    assert everything[0] == some[0] == int(np.argmax(probability))


@pytest.mark.parametrize(("name", "direction"), [("threshold", -1), ("factor", 1), ("entropy_bound", 1)])
@settings(max_examples=60, deadline=None)
@given(probability=PROBABILITIES, knobs=st.tuples(st.floats(1e-6, 0.9), st.floats(1e-6, 0.9)))
def test_a_bolder_value_never_reveals_less(
    name: str, direction: int, probability: list[float], knobs: tuple[float, float]
) -> None:
    careful, bold = sorted(knobs, reverse=direction < 0)
    look = proposal(probability, [5 * (1 - p) for p in probability])
    few, many = (f"{name}:{value}" for value in (careful, bold))
    assert set(chosen(look, reveal=few)) <= set(chosen(look, reveal=many))


@pytest.mark.parametrize("cautious", ["threshold:1", "factor:1e-9", "entropy_bound:0"])
def test_the_most_careful_value_reveals_one_at_a_time(cautious: str) -> None:
    network = unmaskable(tiny_vocabulary())
    (found,) = steps_of(network, PROMPTS[:1], 12, reveal=cautious)
    assert len(found) == 12


@pytest.mark.parametrize(("name", "value"), [(name, values[1]) for name, values in KNOBS.items()])
def test_drawn_tokens_filters_and_drawn_positions_go_with_it(name: str, value: float) -> None:
    network = unmaskable(tiny_vocabulary(), k=8)
    options: dict[str, Any] = {"temperature": 0.8, "top_p": 0.95, "algorithm_temperature": 0.5}
    options["reveal"] = f"{name}:{value}"
    first, again = (steps_of(network, PROMPTS, 12, **options) for _ in range(2))
    assert first == again
    assert all(network.config.mask_token_id not in steps[-1] for steps in first)

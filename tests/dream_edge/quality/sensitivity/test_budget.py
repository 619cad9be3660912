"""Spending bits: against every possible assignment, and on the tiny model's geometry."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream_edge.quality.errors import BudgetOutOfRange, MeasurementsUnfit
from dream_edge.quality.sensitivity.budget import Choice, budget_recipe, formats_for, hull, spend
from dream_edge.quality.sensitivity.effects import Effect, Sensitivity, format_name, parse_format
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.recipe import TABLE, WeightFormat
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, matrix_shapes, parameter_count
from support.networks import small_config

CONFIG = small_config(hidden_size=256, intermediate_size=512, num_hidden_layers=3)
NAMES = ("int4-128", "int4-32", "int8-128")


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[str, list[Choice]], int]:
    keys = draw(st.integers(1, 5))
    choices = {
        f"m{key}": [
            Choice(f"f{index}", draw(st.integers(1, 30)), draw(st.integers(0, 100)) / 8)
            for index in range(draw(st.integers(1, 4)))
        ]
        for key in range(keys)
    }
    least = sum(min(each.bytes for each in points) for points in choices.values())
    most = sum(max(each.bytes for each in points) for points in choices.values())
    return choices, draw(st.integers(least, most + 5))


@settings(max_examples=150, deadline=None)
@given(problems())
def test_little_is_lost_against_the_best_of_all_assignments(problem: tuple[dict[str, list[Choice]], int]) -> None:
    """No more than one step along a hull saves; the best is found by trying everything."""
    choices, budget = problem
    chosen = spend(choices, budget)
    assert chosen.keys() == choices.keys()
    assert all(chosen[key] in choices[key] for key in choices)
    assert sum(choice.bytes for choice in chosen.values()) <= budget
    fitting = (each for each in product(*choices.values()) if sum(choice.bytes for choice in each) <= budget)
    best = min(sum(choice.loss for choice in each) for each in fitting)
    steps = [low.loss - high.loss for points in choices.values() for low, high in pairwise(hull(points))]
    assert best <= sum(choice.loss for choice in chosen.values()) <= best + max(steps, default=0) + 1e-9


@settings(max_examples=100, deadline=None)
@given(problems())
def test_what_is_left_buys_nothing_more(problem: tuple[dict[str, list[Choice]], int]) -> None:
    choices, budget = problem
    chosen = spend(choices, budget)
    left = budget - sum(choice.bytes for choice in chosen.values())
    for key, points in choices.items():
        better = [each for each in hull(points) if each.bytes > chosen[key].bytes]
        assert not better or better[0].bytes - chosen[key].bytes > left


def test_bytes_go_where_a_byte_saves_most() -> None:
    choices = {
        "dear": [Choice("low", 10, 9.0), Choice("high", 30, 1.0)],  # 0.4 a byte
        "cheap": [Choice("low", 10, 3.0), Choice("high", 14, 1.0)],  # 0.5 a byte
    }
    assert {key: each.name for key, each in spend(choices, 30).items()} == {"dear": "low", "cheap": "high"}
    assert {key: each.name for key, each in spend(choices, 44).items()} == {"dear": "high", "cheap": "high"}


def test_a_larger_format_that_was_measured_as_no_better_is_never_bought() -> None:
    points = [Choice("a", 10, 1.0), Choice("b", 20, 1.0), Choice("c", 30, 1.5), Choice("d", 40, 0.5)]
    assert [each.name for each in hull(points)] == ["a", "d"]


def losses(config_losses: dict[str, float] | None = None) -> dict[str, dict[WeightFormat, float]]:
    """Loss 1, 0.5 and 0.01 for the three formats, times a factor by matrix."""
    factors = config_losses or {}
    found = {
        name: {
            parse_format(each): factors.get(name, 1.0) * loss for each, loss in zip(NAMES, (1, 0.5, 0.01), strict=True)
        }
        for name in matrix_shapes(CONFIG)
    }
    found[EMBEDDING] = {parse_format("int8-128"): 0.0}
    return found


@pytest.mark.parametrize("bits", [5.0, 5.5, 6.3, 8.0])
def test_formats_take_no_more_bits_than_given_and_no_matrix_less(bits: float) -> None:
    formats, _ = formats_for(CONFIG, losses(), bits)
    achieved = formats.bits_per_weight(CONFIG)
    largest = max(rows * columns for rows, columns in matrix_shapes(CONFIG).values())
    assert bits - 4 * largest / parameter_count(CONFIG) < achieved <= bits


def test_the_matrix_that_matters_gets_8_bits() -> None:
    precious = "model.layers.1.mlp.gate_proj"
    cheapest, most = formats_for(CONFIG, losses(), 5.3)[0], formats_for(CONFIG, losses({precious: 50.0}), 5.3)[0]
    assert cheapest.of(precious).bits == 4
    assert most.of(precious) == parse_format("int8-128")


def test_range_that_an_impossible_budget_names_is_possible() -> None:
    for bits in (3.0, 4.0, 9.0):
        with pytest.raises(BudgetOutOfRange, match="must lie between") as raised:
            formats_for(CONFIG, losses(), bits)
    for end in (raised.value.least, raised.value.most):
        assert abs(formats_for(CONFIG, losses(), end)[0].bits_per_weight(CONFIG) - end) < 0.001
    with pytest.raises(BudgetOutOfRange):
        formats_for(CONFIG, losses(), raised.value.least - 0.002)
    with pytest.raises(BudgetOutOfRange):
        formats_for(CONFIG, losses(), raised.value.most + 0.002)


def sensitivity() -> Sensitivity:
    effects = [
        Effect({name: format_name(format_)}, loss, 0.0)
        for name, each in losses().items()
        for format_, loss in each.items()
    ]
    fields = {"model": "m", "passages": "p", "checkpoint": "c", "layers": 3, "sequences": 2, "positions": 9, "seed": 0}
    return Sensitivity(**fields, effects=tuple(effects))  # type: ignore[arg-type]


def test_a_recipe_says_what_it_was_chosen_by() -> None:
    recipe, origin = budget_recipe(sensitivity(), CONFIG, 5.5, Path("x.json"))
    recipe.check(CONFIG)
    formats = recipe.targets["cpu"]
    assert recipe.scheme == "mixed"
    assert origin["bits"] == 5.5
    assert set(origin["formats"]) == {format_name(formats.of(name)) for name in matrix_shapes(CONFIG)}
    assert origin["measured_on"] == {"passages_sha256": "p", "sequences": 2, "positions": 9}
    measured = losses()
    total = sum(measured[name][formats.of(name)] for name in matrix_shapes(CONFIG))
    assert origin["expected_kl"] == pytest.approx(total, rel=1e-3)


def test_an_embedding_that_is_lm_head_too_is_bought_once() -> None:
    tied = replace(CONFIG, tie_word_embeddings=True)
    shared = {name: dict(each) for name, each in losses().items() if name != LM_HEAD} | {EMBEDDING: {TABLE: 1.0}}
    formats, _ = formats_for(tied, shared, 6.0)
    assert formats.embedding == formats.lm_head == TABLE
    largest = max(rows * columns for rows, columns in matrix_shapes(CONFIG).values())
    assert 6.0 - 4 * largest / parameter_count(tied) < formats.bits_per_weight(tied) <= 6.0


def test_measurements_of_other_matrices_are_refused() -> None:
    whole = sensitivity()
    lacking = replace(whole, effects=tuple(each for each in whole.effects if LM_HEAD not in each.change))
    with pytest.raises(MeasurementsUnfit, match="lm_head"):
        budget_recipe(lacking, CONFIG, 5.5, Path("x.json"))
    with pytest.raises(MeasurementsUnfit, match=r"layers\.2"):
        budget_recipe(whole, replace(CONFIG, num_hidden_layers=2), 5.5, Path("x.json"))


@pytest.mark.parametrize("name", ["int8", "fp16", "int4-16", "int4-256", "int8-32", "nf4-64", "int8-table"])
def test_names_of_formats_are_read_as_they_are_written(name: str) -> None:
    assert format_name(parse_format(name)) == name


@pytest.mark.parametrize("name", ["", "int4", "int4-48", "int5-32", "int8-", "fp32-1", "INT8"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidOption, match="formats"):
        parse_format(name)

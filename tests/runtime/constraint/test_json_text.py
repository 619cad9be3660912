"""Patterns of JSON texts, against a plain look at every short text."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import combinations, product
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream_edge_runtime.constraint.automaton import Automaton
from dream_edge_runtime.constraint.json_text import write_any, write_escaped, write_other_key, write_value
from dream_edge_runtime.constraint.pattern import Selection, chars, literal
from dream_edge_runtime.constraint.regex import read_regex
from dream_edge_runtime.constraint.schema import read_schema
from support.schemas import VALUES, draw_text


@settings(max_examples=150)
@given(st.integers(-1200, 1200) | st.none(), st.integers(-1200, 1200) | st.none())
def test_bounds_of_integers_are_exact(low: int | None, high: int | None) -> None:
    bounds = {name: value for name, value in (("minimum", low), ("maximum", high)) if value is not None}
    if low is not None and high is not None and low > high:
        return
    machine = Automaton.of(read_schema({"type": "integer", **bounds}))
    for value in {
        -100_000,
        -1201,
        *range(-1200, 1201, 7),
        1201,
        100_000,
        *(low + d for d in (-1, 0, 1) if low is not None),
    }:
        inside = (low is None or low <= value) and (high is None or value <= high)
        assert machine.matches(str(value)) == inside or value == 0, value


def test_bounds_of_integers_by_every_number_of_three_digits() -> None:
    for low, high in ((0, 0), (-1, 1), (9, 10), (99, 101), (-100, -99), (7, 654), (-654, 7), (100, 999)):
        machine = Automaton.of(read_schema({"type": "integer", "minimum": low, "maximum": high}))
        matched = [value for value in range(-1100, 1100) if machine.matches(str(value))]
        assert matched == [*range(low, high + 1)]
        assert not any(machine.matches(text) for text in ("", "-", "00", "01", "1.0", "+1", "1e0"))


def test_bounds_of_thirty_digits_are_exact() -> None:
    low, high = -(10**29) - 7, 10**30 - 3
    machine = Automaton.of(read_schema({"type": "integer", "exclusiveMinimum": low, "maximum": high}))
    assert machine.matches(str(low + 1))
    assert machine.matches(str(high))
    assert not machine.matches(str(low))
    assert not machine.matches(str(high + 1))


BOUNDS = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")


@pytest.mark.parametrize(("low_name", "high_name"), [*product(*BOUNDS)])
@pytest.mark.parametrize(("low", "high"), [(-1.5, 1.25), (0, 1), (0.25, 0.75), (-0.02, 0), (1.9, 12), (-3, -2.5)])
def test_bounds_of_numbers_by_every_number_of_two_places(
    low_name: str, high_name: str, low: float, high: float
) -> None:
    machine = Automaton.of(read_schema({"type": "number", low_name: low, high_name: high}))
    for hundredths in range(-400, 1400):
        value = Decimal(hundredths) / 100
        above = value >= Decimal(repr(low)) if low_name == "minimum" else value > Decimal(repr(low))
        below = value <= Decimal(repr(high)) if high_name == "maximum" else value < Decimal(repr(high))
        for text in {f"{value:.2f}", f"{value:.1f}" if hundredths % 10 == 0 else f"{value:.2f}"}:
            assert machine.matches(text) == (above and below) or value == 0, text
        if hundredths % 100 == 0 and value != 0:
            assert machine.matches(str(int(value))) == (above and below)


@pytest.mark.parametrize("bound", [0.1, 0.3, 1e-7, 123456.789, 99999999999999.0, 0.30000000000001])
def test_rounding_to_a_float_never_passes_a_bound(bound: float) -> None:
    for keyword in ("exclusiveMinimum", "exclusiveMaximum"):
        pattern = read_schema({"type": "number", keyword: bound})
        for seed in range(200):
            value = json.loads(draw_text(pattern, Random(seed)))
            assert value > bound if keyword == "exclusiveMinimum" else value < bound


def test_of_two_bounds_the_narrower_one_counts() -> None:
    machine = Automaton.of(
        read_schema({"type": "integer", "minimum": 3, "exclusiveMinimum": 3, "maximum": 5, "exclusiveMaximum": 5})
    )
    assert [value for value in range(10) if machine.matches(str(value))] == [4]


def test_a_number_that_rounds_to_the_bound_is_outside() -> None:
    machine = Automaton.of(read_schema({"type": "number", "exclusiveMaximum": 3}))
    assert machine.matches("2.999999")
    assert not machine.matches("2.99999999999999999999")  # 3.0 once it is read


def test_a_selection_is_every_choice_in_order() -> None:
    for needed in product((False, True), repeat=4):
        pattern = Selection(tuple(map(literal, ("a", "bb", "c", "a"))), needed, literal(","))
        machine = Automaton.of(pattern)
        wanted = {
            ",".join(("a", "bb", "c", "a")[place] for place in chosen)
            for count in range(1, 5)
            for chosen in combinations(range(4), count)
            if all(place in chosen for place in range(4) if needed[place])
        }
        texts = {",".join(each) for count in range(5) for each in product(("a", "bb", "c"), repeat=count)}
        assert {text for text in texts if machine.matches(text)} == wanted
        assert all(draw_text(pattern, Random(seed)) in wanted for seed in range(20))


@settings(max_examples=100)
@given(st.sets(st.text('ab"\\é\n', max_size=4), min_size=1, max_size=5))
def test_another_key_is_none_of_the_named(names: set[str]) -> None:
    machine = Automaton.of(write_other_key(names))
    for text in {"", "a", "b", "aa", "ab", '"', "\\", "é", "\n", "aba", "zz", *names, *(name + "a" for name in names)}:
        assert machine.matches(json.dumps(text, ensure_ascii=False)) == (text not in names)
    assert not machine.matches(r'"\u0061"')


@settings(max_examples=100)
@given(VALUES)
def test_a_value_is_just_itself(value: Any) -> None:
    pattern = write_value(value)
    machine = Automaton.of(pattern)
    for indent in (None, 0, 2):
        assert machine.matches(json.dumps(value, ensure_ascii=False, indent=indent))
    for seed in range(5):
        assert json.loads(draw_text(pattern, Random(seed))) == value


def test_any_value_is_json() -> None:
    for seed in range(500):
        json.loads(draw_text(write_any(3), Random(seed)))


def test_text_that_must_be_escaped() -> None:
    machine = Automaton.of(write_escaped(chars(("\0", "z"))))
    for code in range(0x80):
        text = json.dumps(chr(code), ensure_ascii=False)[1:-1]
        assert machine.matches(text) == (code <= ord("z"))
    assert not machine.matches('"')
    assert not machine.matches("\n")
    assert Automaton.of(write_escaped(read_regex(r'(a"|\\){2,3}'))).matches(r"a\"\\a\"")

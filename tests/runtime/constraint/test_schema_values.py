"""Given values beside other keywords, multiples, and arrays of different values."""

from __future__ import annotations

import json
from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dream_edge_runtime.constraint.errors import InvalidSchema
from dream_edge_runtime.constraint.schema import read_schema
from support.schemas import VALUES, Schema, accepts, accepts_any, automaton, draw_text


def is_valid(schema: Schema, value: Any) -> bool:
    return bool(Draft202012Validator(schema).is_valid(value))


BESIDE = st.fixed_dictionaries(
    {},
    optional={
        "minimum": st.integers(-20, 5),
        "exclusiveMinimum": st.sampled_from([-30, -1.25, 0]),
        "maximum": st.sampled_from([-1.25, 0, 0.5, 17]),
        "exclusiveMaximum": st.sampled_from([0.5, 30, 1e20]),
        "multipleOf": st.integers(1, 4),
        "minLength": st.integers(0, 3),
        "maxLength": st.integers(1, 6),
        "pattern": st.sampled_from(["a|b", "^[A-Z]", "[^é]", "\\\\|n"]),
        "type": st.sampled_from(["integer", "number", "string", ["string", "null", "number"]]),
    },
)


@settings(max_examples=300)
@given(st.lists(VALUES, min_size=1, max_size=6), BESIDE)
def test_values_are_those_that_other_keywords_allow(values: list[Any], beside: Schema) -> None:
    schema = {"enum": ["always, as long as nothing excludes it", None, *values], **beside}
    allowed = [value for value in schema["enum"] if is_valid(schema, value)]
    if not allowed:
        with pytest.raises(InvalidSchema, match="no value is valid"):
            read_schema(schema)
        return
    machine = automaton(schema)
    for value in schema["enum"]:
        assert machine.matches(json.dumps(value, ensure_ascii=False)) == is_valid(schema, value), value


def test_a_value_beside_its_bounds() -> None:
    assert accepts({"type": "string", "const": "no", "maxLength": 2}, '"no"')
    assert accepts({"allOf": [{"enum": [1, 2, 3.5]}, {"minimum": 2}], "exclusiveMaximum": 3.5}, "2")
    assert not accepts_any({"allOf": [{"enum": [1, 2, 3.5]}, {"minimum": 2}], "exclusiveMaximum": 3.5}, "1", "3.5")
    assert not accepts_any({"enum": ["3", "\u0663"], "pattern": r"^\d$"}, '"\u0663"')  # a digit for Python alone


@pytest.mark.parametrize("factor", [1, 2, 4, 5, 8, 10, 25, 125, 1000, 2.0])
@pytest.mark.parametrize("low", [None, -2150, -7, 0, 3, 1000])
@pytest.mark.parametrize("high", [None, -1001, -5, 0, 8, 4004])
def test_multiples_told_by_their_last_digits(factor: float, low: int | None, high: int | None) -> None:
    bounds = {name: bound for name, bound in (("minimum", low), ("maximum", high)) if bound is not None}
    schema: Schema = {"type": "number", "multipleOf": factor, **bounds}
    some = [*range(-1300, 1300), *range(-10_300, -9_900), *range(3_900, 4_100), 123_456_000, -98_765_432_125, 10**28]
    if any(is_valid(schema, number) for number in some):
        machine = automaton(schema)
        assert all(machine.matches(str(number)) == is_valid(schema, number) for number in some)
        assert not any(machine.matches(text) for text in ("05", "-0", "1.5", "+1000", "1e3", "", "-", "000"))


def test_no_multiple_on_one_side_of_zero() -> None:
    pattern = read_schema({"type": "integer", "minimum": -10, "multipleOf": 100})
    assert all(int(draw_text(pattern, Random(seed))) % 100 == 0 for seed in range(50))
    with pytest.raises(InvalidSchema, match="no value is valid"):
        read_schema({"type": "integer", "minimum": 1, "maximum": 7, "multipleOf": 100})


@pytest.mark.parametrize("factor", [3, 7, 12, 60, 999, 10**29])
def test_few_multiples_between_bounds(factor: int) -> None:
    schema: Schema = {"multipleOf": factor, "exclusiveMinimum": -1500, "maximum": 1000.5}
    machine = automaton(schema)
    assert all(machine.matches(str(number)) == is_valid(schema, number) for number in range(-2000, 2000))


def test_different_items_are_written_in_the_order_of_their_enum() -> None:
    given = ["a", 1, True, None, 1.0, 0.5]
    for bounds in ({}, {"minItems": 1}, {"maxItems": 2}, {"minItems": 2, "maxItems": 3}, {"minItems": 5}):
        schema: Schema = {"type": "array", "items": {"enum": given}, "uniqueItems": True, **bounds}
        machine = automaton(schema)
        for count in range(6):
            for items in product(["a", 1, True, None, 0.5], repeat=count):
                order = [given.index(each) if each is not True else 2 for each in items]
                expected = is_valid(schema, [*items]) and order == sorted(order)
                assert machine.matches(json.dumps(items)) == expected, items
        assert not machine.matches("[1, 1.0]")
    with pytest.raises(InvalidSchema, match="no value is valid"):
        read_schema({"type": "array", "items": {"enum": given}, "uniqueItems": True, "minItems": 6})
    several = {"type": "array", "items": {"enum": [*range(15)], "minimum": 3}, "uniqueItems": True, "maxItems": 2}
    assert accepts(several, "[]", "[3, 14]")
    assert not accepts_any(several, "[2]", "[4, 4]", "[3, 4, 5]")
    assert accepts({"type": "array", "items": {"type": "null"}, "uniqueItems": True, "maxItems": 1}, "[]", "[null]")

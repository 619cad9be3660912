"""Every text that is generated under a JSON schema is valid, by jsonschema."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dream_edge
from dream_edge_runtime.constraint.errors import ConstraintError, InvalidSchema, TooLittleRoom
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.generation.options import PRESETS
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.template import Hole
from support.schemas import SCHEMAS, Schema, check

HOW: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0.0, 1.0, 2.0]), "seed": st.integers(0, 9)},
    optional={"preset": st.sampled_from([name for name in PRESETS if name != "exact"])},
)
FIELDS: Schema = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {"enum": ["x", "y"]}},
    "required": ["a", "b", "c"],
}


@cache
def load(name: str) -> DreamModel:
    return dream_edge.load(name)


def tiny() -> DreamModel:
    return load("tiny")


def generate(schema: Schema, how: dict[str, Any], room: int, name: str = "tiny") -> str | None:
    """A text, whose validity is checked; None if there is none."""
    if name == "tiny-blocks":
        how = {key: value for key, value in how.items() if key != "preset"}
    try:
        text = load(name).generate("Who?", json_schema=schema, max_new_tokens=room, **how).text
    except ConstraintError:
        return None
    check(text, schema)
    return text


@given(SCHEMAS, HOW, st.integers(4, 40))
@settings(max_examples=60)
def test_every_text_is_valid(schema: Schema, how: dict[str, Any], room: int) -> None:
    generate(schema, how, room)


@pytest.mark.slow
def test_two_thousand_texts_are_valid() -> None:
    texts = []

    @given(SCHEMAS, HOW, st.integers(1, 64), st.sampled_from(["tiny", "tiny-blocks"]))
    @settings(max_examples=5_000, derandomize=True, database=None)
    def collect(schema: Schema, how: dict[str, Any], room: int, name: str) -> None:
        texts.append(generate(schema, how, room, name))

    collect()
    assert len(texts) - texts.count(None) >= 2_000


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_true_is_any_object(temperature: float) -> None:
    text = tiny().generate("Who?", json_schema=True, max_new_tokens=24, temperature=temperature, seed=1).text
    assert isinstance(json.loads(text), dict)


def test_a_hole_has_a_schema_of_its_own() -> None:
    result = tiny().fill(["The record: ", Hole(24, json_schema=FIELDS), "."])
    check(result.holes[0], FIELDS)


def test_room_is_asked_for_before_the_first_pass() -> None:
    with pytest.raises(TooLittleRoom, match="takes 22 tokens, and there is room for 21"):
        tiny().generate("Who?", json_schema=FIELDS, max_new_tokens=21)
    check(tiny().generate("Who?", json_schema=FIELDS, max_new_tokens=22).text, FIELDS)


def test_a_schema_that_cannot_be_kept_is_named() -> None:
    with pytest.raises(InvalidSchema, match="#/properties/a: multipleOf 3 cannot be kept"):
        tiny().generate("Who?", json_schema={"type": "object", "properties": {"a": {"multipleOf": 3}}})


@pytest.mark.parametrize("value", [False, "object", ["object"], 3])
def test_what_is_no_schema_is_named(value: Any) -> None:
    with pytest.raises(InvalidOption, match="json_schema"):
        tiny().generate("Who?", json_schema=value)


def test_a_schema_that_holds_itself_is_no_json() -> None:
    loop: Schema = {"type": "object"}
    loop["properties"] = {"a": loop}
    with pytest.raises(InvalidOption, match="must be JSON"):
        tiny().generate("Who?", json_schema=loop)

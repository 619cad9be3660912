"""What is written under a schema is valid, by jsonschema; and what people and programs write can be written."""

from __future__ import annotations

import json
from itertools import combinations
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dream_edge_runtime.constraint.automaton import Automaton
from dream_edge_runtime.constraint.errors import ConstraintError, InvalidSchema
from dream_edge_runtime.constraint.schema import read_schema
from support.schemas import (
    CORE,
    FORMATS,
    SCHEMAS,
    Schema,
    accepts,
    accepts_any,
    automaton,
    check,
    draw_text,
    draw_value,
)

LAYOUTS: tuple[dict[str, Any], ...] = ({}, {"indent": 1}, {"separators": (",", ":")})


@settings(max_examples=300)
@given(SCHEMAS, st.integers(0, 2**32))
def test_every_text_is_valid(schema: Schema, seed: int) -> None:
    try:
        pattern = read_schema(schema)
        machine = Automaton.of(pattern)
    except ConstraintError:
        return
    for number in range(5):
        text = draw_text(pattern, Random(seed + number))
        check(text, schema)
        assert machine.matches(text)


@settings(max_examples=300)
@given(CORE, st.integers(0, 2**32))
def test_every_value_can_be_written(schema: Schema, seed: int) -> None:
    value = draw_value(schema, Random(seed))
    if Draft202012Validator(schema).is_valid(value):
        texts = [json.dumps(value, ensure_ascii=False, **layout) for layout in LAYOUTS]
        assert accepts(schema, *texts)


def test_most_random_schemas_can_be_read() -> None:
    read = 0

    @settings(max_examples=200, database=None, derandomize=True)
    @given(SCHEMAS)
    def count(schema: Schema) -> None:
        nonlocal read
        try:
            read_schema(schema)
        except ConstraintError:
            return
        read += 1

    count()
    assert read >= 150


def test_any_of_the_optional_properties_may_be_left_out() -> None:
    names = "abcd"
    schema = {"type": "object", "properties": {name: {"type": "null"} for name in names}, "required": ["c"]}
    machine = automaton(schema)
    for count in range(5):
        for chosen in combinations(names, count):
            text = json.dumps(dict.fromkeys(chosen))
            assert machine.matches(text) == ("c" in chosen), text
    for text in (
        '{"c": null,}',
        '{,"c": null}',
        '{"c": null "d": null}',
        '{"d": null, "c": null}',
        '{"c": null, "c": null}',
    ):
        assert not machine.matches(text)


def test_optional_properties_cost_no_more_than_required_ones() -> None:
    properties = {f"field_number_{number}": {"type": "string"} for number in range(60)}
    free = automaton({"type": "object", "properties": properties})
    fixed = automaton({"type": "object", "properties": properties, "required": [*properties]})
    assert len(free.table) < 1.5 * len(fixed.table)


def test_white_space_is_one_space_or_a_line_break_with_indentation() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}, "required": ["a"]}
    assert accepts(
        schema, '{"a":[1,2]}', '{"a": [1, 2]}', '{ "a": [ 1, 2 ] }', '{\n    "a": [\n        1,\n2\n]\n}', '{"a": []}'
    )
    assert not accepts_any(
        schema,
        '{"a":\n         [1]}',
        '{"a" :[1]}',
        '{"a":  [1]}',
        '{"a":\t[1]}',
        '{"a":[1 ,2]}',
        ' {"a":[]}',
        '{"a":[]}\n',
    )


def test_other_properties_only_where_the_schema_says_what_they_are() -> None:
    named: Schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    extras: tuple[Any, ...] = (True, False, {}, None)
    for extra in extras:
        absent: Schema = {} if extra is None else {"additionalProperties": extra}
        assert accepts({**named, **absent}, '{"a": 1}', "{}")
        assert not accepts({**named, **absent}, '{"a": 1, "b": 1}')
    open_ended = {**named, "additionalProperties": {"type": "boolean"}}
    assert accepts(open_ended, '{"a": 1, "b": true}', '{"b": true}', '{"ab": true, "": false}')
    assert not accepts_any(open_ended, '{"a": true}', '{"a": 1, "a": true}', r'{"\u0061": true}')
    assert accepts({"type": "object"}, '{"x": [1, {"y": null}]}')
    assert accepts({"type": "object", "properties": {}}, "{}")
    assert not accepts({"type": "object", "properties": {}}, '{"a": 1}')


def test_counts_of_properties() -> None:
    two: Schema = {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}}
    one, both = '{"a": null}', '{"a": null, "b": null}'
    assert accepts({**two, "minProperties": 1}, one, both)
    assert not accepts({**two, "minProperties": 1}, "{}")
    assert not accepts({**two, "minProperties": 2}, one)
    assert not accepts({**two, "required": ["a"], "maxProperties": 1}, both)
    mixed = {**two, "additionalProperties": {"type": "null"}, "maxProperties": 3}
    assert accepts(mixed, '{"a": null, "b": null, "c": null}', '{"c": null}')
    assert not accepts(mixed, '{"a": null, "b": null, "c": null, "d": null}')
    some = {"type": "object", "additionalProperties": {"type": "null"}, "minProperties": 1, "maxProperties": 2}
    assert accepts(some, one, both)
    assert not accepts_any(some, "{}", '{"a": null, "b": null, "c": null}')


def test_names_of_properties() -> None:
    coded = {"type": "object", "additionalProperties": {"const": 1}, "propertyNames": {"pattern": "^[ab]$"}}
    assert accepts(coded, "{}", '{"a": 1, "b": 1}')
    assert not accepts_any(coded, '{"c": 1}', '{"a": 2}')
    assert accepts({**coded, "propertyNames": {"maxLength": 2}}, '{"": 1, "zz": 1}')
    for names in (False, {"type": "integer"}):
        assert accepts({**coded, "propertyNames": names}, "{}")
        assert not accepts({**coded, "propertyNames": names}, '{"a": 1}')


def test_arrays() -> None:
    digits: Schema = {"type": "array", "items": {"enum": [1, 2]}}
    assert accepts({**digits, "minItems": 1, "maxItems": 2}, "[1]", "[2, 1]")
    assert not accepts_any({**digits, "minItems": 1, "maxItems": 2}, "[]", "[1, 1, 1]")
    pair: Schema = {"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}]}
    assert accepts(pair, "[]", "[null]", "[null, true]")
    assert not accepts_any(pair, "[true]", "[null, true, 1]")
    assert accepts({**pair, "items": {"const": 3}, "minItems": 3}, "[null, true, 3]", "[null, true, 3, 3]")
    assert not accepts_any({**pair, "items": {"const": 3}, "minItems": 3}, "[null, true]", "[null, true, 4]")
    assert accepts({"type": "array", "items": [{"const": 1}], "additionalItems": {"const": 2}}, "[1, 2, 2]")
    assert not accepts({**pair, "items": False}, "[null, true, 1]")


def test_strings() -> None:
    assert accepts({"type": "string"}, '""', '"é名😀"', r'"\" \\ \/ \b\f\n\r\t \u00e9"')
    assert not accepts_any({"type": "string"}, '"\n"', r'"\ud83d\ude00"', r'"\x"', '"', "a")
    assert accepts({"type": "string", "minLength": 2, "maxLength": 3}, '"😀😀"', r'"\"\n\\"')
    assert not accepts_any({"type": "string", "minLength": 2, "maxLength": 3}, '"a"', '"abcd"', r'"\n"')
    quoted = {"type": "string", "pattern": r'^"[\\/]\n$'}
    assert accepts(quoted, r'"\"\\\n"', r'"\"/\n"')


def test_patterns_are_found_anywhere_unless_they_are_anchored() -> None:
    assert accepts({"type": "string", "pattern": "b"}, '"abc"', '"b"')
    assert not accepts({"type": "string", "pattern": "^b$"}, '"abc"')
    assert accepts({"type": "string", "pattern": "^a|b$"}, '"ax"', '"xb"')
    assert not accepts({"type": "string", "pattern": "^a|b$"}, '"xax"')
    assert not accepts({"type": "string", "pattern": r"^\d$"}, '"٣"')  # a digit for Python, none for ECMAScript


def test_pattern_with_lengths() -> None:
    word = {"type": "string", "pattern": "^[A-Z][a-z]*!$", "minLength": 4, "maxLength": 5}
    assert accepts(word, '"Abc!"', '"Abcd!"')
    assert not accepts_any(word, '"Ab!"', '"Abcde!"')
    assert accepts({"type": "string", "pattern": "^(ab)+$", "maxLength": 5}, '"ab"', '"abab"')
    assert not accepts({"type": "string", "pattern": "^(ab)+$", "maxLength": 5}, '"ababab"')
    assert accepts({"type": "string", "pattern": "^[a-z]{3,}$", "maxLength": 5}, '"abc"', '"abcde"')
    assert not accepts_any({"type": "string", "pattern": "^[a-z]{3,}$", "maxLength": 5}, '"ab"', '"abcdef"')
    assert accepts({"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083}, '"https://a.org/b?c=d"')


def test_values() -> None:
    schema = {"enum": ["a", 1, 1.5, None, True, {"k": [1, "é"]}, []]}
    assert accepts(schema, '"a"', "1", "1.5", "null", "true", '{"k": [1, "é"]}', '{"k":[1,"é"]}', "[]")
    assert not accepts_any(schema, "2", "false", '"b"', "{}", "1.0")
    assert accepts({"type": ["string", "null"], "enum": ["a", None, 1]}, '"a"', "null")
    assert not accepts({"type": ["string", "null"], "enum": ["a", None, 1]}, "1")
    assert not accepts({"allOf": [{"enum": [1, 2]}, {"enum": [2, True]}]}, "1")


def test_keywords_tell_the_type_where_none_is_given() -> None:
    assert accepts({"properties": {"a": {"minimum": 3}}, "required": ["a"]}, '{"a": 3}', '{"a": 3.5}')
    assert not accepts_any({"properties": {"a": {"minimum": 3}}}, "1", '{"a": "x"}')


def test_all_of_holds_together() -> None:
    base: Schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    schema = {
        "$defs": {"Base": base},
        "$ref": "#/$defs/Base",
        "properties": {"a": {"maximum": 9}, "b": {"type": "null"}},
    }
    assert accepts(schema, '{"a": 9, "b": null}')
    assert not accepts_any(schema, '{"a": 10}', '{"b": null}')
    closed = {"allOf": [{**base, "additionalProperties": False}, {"properties": {"b": {"type": "null"}}}]}
    assert not accepts(closed, '{"a": 1, "b": null}')
    either = {
        **base,
        "properties": {**base["properties"], "b": {}},
        "anyOf": [{"required": ["b"]}, {"maxProperties": 1}],
    }
    assert accepts(either, '{"a": 1, "b": 2}', '{"a": 1}')


def test_one_of_needs_options_that_exclude_each_other() -> None:
    assert accepts({"oneOf": [{"type": "string"}, {"type": "integer"}]}, '"a"', "1")
    assert accepts({"oneOf": [{"const": "a"}, {"const": "b"}]}, '"a"', '"b"')
    closed = [
        {"type": "object", "properties": {name: {}}, "required": [name], "additionalProperties": False} for name in "ab"
    ]
    assert accepts({"oneOf": closed}, '{"a": 1}', '{"b": 1}')
    for options in (
        [{"type": "integer"}, {"type": "number"}],
        [{"const": 1}, {"const": 1.0}],
        [{"minimum": 3}, {"type": "string"}],
    ):
        with pytest.raises(InvalidSchema, match="oneOf"):
            read_schema({"oneOf": options})


def test_the_property_that_tells_options_apart_is_written() -> None:
    options = [{"type": "object", "properties": {"n": {}, "kind": {"const": kind}}} for kind in "ab"]
    schema = {"oneOf": options}
    assert accepts(schema, '{"kind": "a"}', '{"n": 1, "kind": "b"}')
    assert not accepts_any(schema, "{}", '{"n": 1}')


def test_references() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/definitions/x~1y%20z"}, "b": {"$ref": "#/properties/a"}},
        "required": ["b"],
        "definitions": {"x/y z": {"type": "boolean"}},
    }
    assert accepts(schema, '{"a": true, "b": false}')


@pytest.mark.parametrize("schema", [False, {"type": []}, {"enum": []}, {"anyOf": [False]}])
def test_schema_that_forbids_everything(schema: Any) -> None:
    with pytest.raises(InvalidSchema):
        read_schema(schema)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2024-02-29 2000-02-29 1999-12-31", "2023-02-29 1900-02-29 2024-04-31 2024-13-01 24-01-01 2024-1-1"),
        ("time", "23:59:59Z 00:00:00.123+05:30", "24:00:00Z 12:00 12:00:00 12:60:00Z 12:00:00+25:00"),
        ("date-time", "2024-05-01T10:00:00Z 2024-05-01T10:00:00.5-08:00", "2024-05-01T10:00:00 2023-02-29T00:00:00Z"),
        ("duration", "P1D P1DT2H PT2H30M PT5S P3W", "P PT P1DT 1D PT1H2S"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000 x"),
        ("email", "ann.b@example.org a_b+c@mail.example.co.uk", "a a@ @b.c a@b a..b@c.de a@b..de"),
        ("ipv4", "0.0.0.0 255.255.255.255 10.1.20.3", "256.0.0.1 1.2.3 01.2.3.4 1.2.3.4.5"),
        ("ipv6", "::1 :: fe80::1:2 1:2:3:4:5:6:7:8", "1:2:3 1::2::3 1:2:3:4:5:6:7:8:9 g::"),
        ("hostname", "example.org localhost a-b.example.org", f"-a.org a..b a_b.org .org {'-'.join(['a' * 16] * 4)}"),
        ("uri", "https://example.org http://a.b/c/d?e=f https://localhost:8080/", "example.org ftp: http:// https://-a"),
    ],
)  # fmt: skip
def test_formats(name: str, good: str, bad: str) -> None:
    schema = {"type": "string", "format": name}
    machine = automaton(schema)
    assert all(machine.matches(json.dumps(text)) for text in good.split())
    assert not any(machine.matches(json.dumps(text)) for text in bad.split())
    pattern = read_schema(schema)
    for seed in range(300):
        assert FORMATS.conforms(json.loads(draw_text(pattern, Random(seed))), name)


def test_formats_that_no_standard_knows_are_notes() -> None:
    assert accepts({"type": "string", "format": "password"}, '"secret"')
    assert accepts({"type": "integer", "format": "int32"}, "7")

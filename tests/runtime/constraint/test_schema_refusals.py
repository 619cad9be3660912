"""Schemas that cannot be kept are refused by name and place, and large ones at once."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from dream_edge_runtime.constraint.automaton import Automaton
from dream_edge_runtime.constraint.errors import ConstraintError, ConstraintTooLarge, InvalidSchema
from dream_edge_runtime.constraint.schema import read_schema


def refusal(schema: Any) -> str:
    """What is said when `schema` stands at #/properties/a."""
    with pytest.raises(InvalidSchema) as caught:
        read_schema({"type": "object", "properties": {"a": schema}})
    assert caught.value.path.startswith("#/properties/a")
    return str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("not", {"type": "string"}),
        ("if", {"type": "string"}),
        ("then", {}),
        ("else", {}),
        ("dependentRequired", {"a": ["b"]}),
        ("dependentSchemas", {"a": {}}),
        ("dependencies", {"a": ["b"]}),
        ("patternProperties", {"^a": {}}),
        ("unevaluatedProperties", False),
        ("unevaluatedItems", False),
        ("contains", {"type": "string"}),
        ("minContains", 1),
        ("maxContains", 1),
        ("$dynamicRef", "#a"),
        ("$recursiveRef", "#"),
        ("schema", {}),
        ("json_schema", {}),
    ],
)
def test_keyword_that_cannot_be_kept(keyword: str, value: Any) -> None:
    said = refusal({keyword: value})
    assert f"{keyword} cannot be kept. " in said


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("requried", "required"), ("propertes", "properties"), ("item", "items"), ("minlength", "minLength")),
        *(("max_length", "maxLength"), ("additional_properties", "additionalProperties"), ("anyof", "anyOf")),
        *(("enums", "enum"), ("ref", "$ref"), ("types", "type"), ("exclusiveminimum", "exclusiveMinimum")),
    ],
)
def test_misspelled_keyword(written: str, meant: str) -> None:
    assert f"{written!r} is no keyword. Write {meant!r}" in refusal({written: 1})


@pytest.mark.parametrize(
    "keyword",
    [
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly", "$comment", "nullable"),
        *(
            "x-requried",
            "markdownDescription",
            "enumNames",
            "propertyOrdering",
            "errorMessage",
            "unit",
            "discriminator",
            "note",
        ),
    ],
)
def test_notes_are_left_aside(keyword: str) -> None:
    assert Automaton.of(read_schema({"type": "null", keyword: {"a": 1}})).matches("null")


def test_uniqueness_that_is_not_asked_for() -> None:
    assert Automaton.of(read_schema({"type": "array", "uniqueItems": False})).matches("[1, 1]")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("string", "a schema is an object or a boolean"),
        ({"type": "int"}, "type is 'int'. It must be one or a list of array"),
        ({"type": ["string", 1]}, "type is"),
        ({"type": []}, "type is []"),
        ({"properties": ["a"]}, "properties is ['a']"),
        ({"properties": {"\ud800": {}}}, "properties is"),
        ({"required": "a"}, "required is 'a'"),
        ({"items": 3}, "a schema is an object or a boolean"),
        ({"prefixItems": {}}, "prefixItems is {}"),
        ({"minItems": -1}, "minItems is -1. It must be a whole number, 0 or more"),
        ({"maxLength": 1.5}, "maxLength is 1.5"),
        ({"maxLength": True}, "maxLength is True"),
        ({"maxItems": 10**5000}, "maxItems is a huge number"),
        ({"minimum": "3"}, "minimum is '3'"),
        ({"exclusiveMinimum": True}, "exclusiveMinimum is True. It must be a number"),
        ({"minimum": float("nan")}, "minimum is nan"),
        ({"maximum": float("inf")}, "maximum is inf"),
        ({"minimum": 10**30}, "minimum is 1000"),
        ({"type": "number", "minimum": 1e-300}, "at most 15 digits"),
        ({"enum": "a"}, "enum is 'a'"),
        ({"enum": [float("nan")]}, "no JSON value"),
        ({"const": {1: 2}}, "no JSON value"),
        ({"const": ("a",)}, "no JSON value"),
        ({"const": "\ud800"}, "no JSON value"),
        ({"anyOf": []}, "anyOf must be a list of schemas"),
        ({"allOf": {}}, "allOf must be a list of schemas"),
        ({"pattern": 3}, "pattern is 3"),
        ({"pattern": "("}, "pattern: regex '('"),
        ({"pattern": r"(a)\1"}, "pattern: regex"),
        ({"type": "string", "pattern": "a", "format": "date"}, "only one pattern or format"),
        ({"type": "string", "pattern": "a+b+$", "maxLength": 5}, "minLength and maxLength cannot be kept together"),
        ({"type": "string", "format": "json-pointer"}, "format json-pointer cannot be kept. Remove it"),
        ({"type": "string", "enum": ["a"], "format": "email"}, "enum and const cannot be kept together with format"),
        ({"const": {"a": 1}, "required": ["a"]}, "keywords for objects or arrays"),
        ({"multipleOf": 0}, "multipleOf is 0. It must be a whole number, 1 or more"),
        ({"multipleOf": 0.01}, "multipleOf is 0.01. It must be a whole number, 1 or more; others cannot be kept"),
        ({"multipleOf": "2"}, "multipleOf is '2'"),
        ({"type": "integer", "multipleOf": 7}, "multipleOf 7 cannot be kept here. Let it divide 1000, or give"),
        ({"allOf": [{"multipleOf": 8}, {"multipleOf": 3}], "minimum": 1}, "multipleOf 24 cannot be kept here"),
        ({"multipleOf": 7, "minimum": 0, "maximum": 7000}, "multipleOf 7 cannot be kept here"),
        ({"uniqueItems": True}, "uniqueItems cannot be kept here. Let items be an enum of up to 7 values"),
        ({"items": {"type": "boolean"}, "uniqueItems": True}, "uniqueItems cannot be kept here"),
        ({"items": {"enum": [1, [2]]}, "uniqueItems": True}, "uniqueItems cannot be kept here"),
        ({"items": {"enum": [*range(8)]}, "uniqueItems": True}, "uniqueItems cannot be kept here"),
        ({"prefixItems": [{"const": 1}], "items": {"enum": [1, 2]}, "uniqueItems": True}, "uniqueItems cannot be kept"),
        ({"$ref": "other.json"}, "$ref 'other.json' names no place in this schema. Write #/$defs/NAME"),
        ({"$ref": "#anchor"}, "names no place"),
        ({"$ref": 3}, "names no place"),
        ({"$ref": "#/$defs/Absent"}, "there is nothing at $ref '#/$defs/Absent'"),
        ({"$ref": "#/properties/a"}, "leads back to itself"),
        ({"$id": "https://example.org/a"}, "$id makes this a document of its own"),
        ({"oneOf": [{"type": "string"}, {"maxLength": 3}]}, "oneOf has options that one value may satisfy together"),
        ({"properties": {"x": {}, "y": {}, "z": {}}, "minProperties": 2}, "minProperties cannot be kept here"),
        ({"properties": {"x": {}, "y": {}}, "maxProperties": 1}, "maxProperties cannot be kept here"),
        ({"type": "object", "minProperties": 2}, "minProperties cannot be kept here"),
        ({"properties": {"x": {}}, "propertyNames": {"pattern": "^x$"}}, "propertyNames cannot be kept"),
        ({"required": ["x"], "propertyNames": {"pattern": "^x$"}}, "propertyNames cannot be kept"),
    ],
)  # fmt: skip
def test_malformed_or_impossible_to_keep(schema: Any, said: str) -> None:
    assert said in refusal(schema)


@pytest.mark.parametrize("depth", [0, 7, "3", 1.5])
def test_depth_out_of_range(depth: object) -> None:
    with pytest.raises(InvalidSchema, match="x-depth must be a whole number from 1 to 6"):
        read_schema({"x-depth": depth})
    assert "x-depth must be a whole number" in refusal({"type": "array", "x-depth": depth})


def nest(levels: int, inner: Any, wrap: Callable[[Any], Any]) -> Any:
    for _ in range(levels):
        inner = wrap(inner)
    return inner


def endless() -> dict[str, Any]:
    loop: dict[str, Any] = {"type": "object", "properties": {}}
    loop["properties"]["a"] = loop
    return loop


TEXT = {"type": "string"}
HOSTILE: dict[str, Callable[[], Any]] = {
    "a value of 1 MB": lambda: {"enum": ["x" * 10**6]},
    "a name of 1 MB": lambda: {"type": "object", "properties": {"x" * 10**6: TEXT}},
    "a required name of 1 MB": lambda: {"type": "object", "required": ["x" * 10**6]},
    "10,000 properties": lambda: {"type": "object", "properties": {f"p{number}": TEXT for number in range(10_000)}},
    "2,500 properties": lambda: {"type": "object", "properties": {f"p{number}": TEXT for number in range(2_500)}},
    "10,000 required names": lambda: {"type": "object", "required": [f"p{number}" for number in range(10_000)]},
    "500 levels of objects": lambda: nest(500, TEXT, lambda inner: {"type": "object", "properties": {"a": inner}}),
    "500 levels of arrays": lambda: nest(500, TEXT, lambda inner: {"type": "array", "items": inner}),
    "500 levels of anyOf": lambda: nest(500, TEXT, lambda inner: {"anyOf": [inner]}),
    "2 to the 30 options": lambda: nest(30, TEXT, lambda inner: {"anyOf": [inner, inner]}),
    "2 to the 25 values": lambda: nest(25, TEXT, lambda i: {"anyOf": [{"items": i}, {"properties": {"a": i}}]}),
    "a product of options": lambda: {"allOf": [{"anyOf": [{"minimum": n}, {"maximum": n}]} for n in range(40)]},
    "900 levels of a value": lambda: {"const": nest(900, 1, lambda inner: [inner])},
    "a value with 30,000 parts": lambda: {"const": {f"k{number}": [number] * 10 for number in range(3000)}},
    "100,000 values": lambda: {"enum": [f"value {number}" for number in range(100_000)]},
    "100,000 numbers": lambda: {"enum": list(range(100_000))},
    "10,000 references": lambda: {
        "$ref": "#/$defs/0",
        "$defs": {str(number): {"$ref": f"#/$defs/{number + 1}"} for number in range(10_000)},
    },
    "references that double": lambda: {
        "$ref": "#/$defs/0",
        "$defs": {**{str(n): {"prefixItems": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(28)}, "28": TEXT},
    },
    "references in a circle": lambda: {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    },
    "a schema that is its own part": endless,
    "10,000 different items": lambda: {"items": {"enum": [*range(10_000)]}, "uniqueItems": True},
    "multiples of 8 with 29 digits": lambda: {"multipleOf": 8, "minimum": 1 - 10**29, "maximum": 10**29 + 1},
    "values and a pattern that explodes": lambda: {"enum": ["a"], "pattern": "^((a{1,100}){1,100}){1,100}$"},
    "2,000 options to compare": lambda: {"oneOf": [{"const": number} for number in range(2_000)]},
    "30 options of 300 properties": lambda: {
        "oneOf": [{"type": "object", "properties": {f"p{number}": TEXT for number in range(300)}}] * 30
    },
    "10 to the 9 items": lambda: {"type": "array", "items": TEXT, "minItems": 10**9},
    "5 to the 12 items": lambda: nest(12, TEXT, lambda inner: {"items": inner, "minItems": 5, "maxItems": 5}),
    "10 to the 9 characters": lambda: {"type": "string", "maxLength": 10**9},
    "10 to the 9 letters": lambda: {"type": "string", "pattern": "^[a-z]+$", "maxLength": 10**9},
    "10 to the 9 properties": lambda: {"type": "object", "additionalProperties": TEXT, "maxProperties": 10**9},
    "20,000 unknown keywords": lambda: {f"kwyword{number}": 1 for number in range(20_000)},
    "10,000 items of their own": lambda: {"type": "array", "prefixItems": [TEXT] * 10_000},
    "900 items of their own": lambda: {"type": "array", "prefixItems": [TEXT] * 900},
    "a pattern that explodes": lambda: {"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"},
    "a pattern with 2 to the 20 states": lambda: {"type": "string", "pattern": "^(a|b)*a(a|b){20}$"},
    "a pattern of 1 MB": lambda: {"type": "string", "pattern": "a" * 10**6},
    "a pattern of 5,000 levels": lambda: {"type": "string", "pattern": "(" * 5000 + "a" + ")" * 5000},
    "long names to differ from": lambda: {"properties": {"x" * 5000: TEXT}, "additionalProperties": TEXT},
    "many names to differ from": lambda: {
        "properties": {f"{number * 7919 % 1000:04d}name": {"type": "null"} for number in range(800)},
        "additionalProperties": TEXT,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_are_refused_within_two_seconds(name: str) -> None:
    schema = HOSTILE[name]()
    started = time.process_time()
    with pytest.raises(ConstraintError):
        Automaton.of(read_schema(schema))
    assert time.process_time() - started < 2


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_are_refused_within_their_memory(name: str) -> None:
    schema = HOSTILE[name]()
    tracemalloc.start()
    try:
        with pytest.raises(ConstraintError):
            Automaton.of(read_schema(schema))
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()


def test_large_notes_cost_nothing() -> None:
    read_schema({"type": "object", "properties": {"a": {"type": "string", "description": "x" * 10**7}}})


def test_too_large_names_the_place() -> None:
    with pytest.raises(ConstraintTooLarge, match=r"1,000,000 times what stands at #/properties/a "):
        read_schema({"properties": {"a": {"type": "string", "maxLength": 10**6}}})
    with pytest.raises(ConstraintTooLarge, match=r"1,000,000 times what stands at #/properties/b "):
        read_schema({"properties": {"b": {"type": "array", "items": TEXT, "maxItems": 10**6}}})

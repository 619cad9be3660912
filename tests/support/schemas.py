"""Random JSON schemas, values that are valid under them, and texts of a pattern."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import AnyUrl, TypeAdapter

from dream_edge_runtime.constraint.automaton import Automaton
from dream_edge_runtime.constraint.pattern import Chars, Either, Pattern, Selection, Sequence
from dream_edge_runtime.constraint.schema import read_schema

Schema = dict[str, Any]


def is_date_time(value: object) -> bool:
    return not isinstance(value, str) or ("T" in value and datetime.fromisoformat(value).tzinfo is not None)


def is_time(value: object) -> bool:
    return not isinstance(value, str) or time.fromisoformat(value).tzinfo is not None


def is_duration(value: object) -> bool:
    return not isinstance(value, str) or TypeAdapter(timedelta).validate_python(value) >= timedelta(0)


def is_uri(value: object) -> bool:
    return not isinstance(value, str) or bool(TypeAdapter(AnyUrl).validate_python(value))


def is_hostname(value: object) -> bool:
    return not isinstance(value, str) or (value.isascii() and bool(value.encode("idna")))


FORMATS = FormatChecker()
for name, is_valid in (
    *(("date-time", is_date_time), ("time", is_time), ("duration", is_duration), ("uri", is_uri)),
    ("hostname", is_hostname),
):
    FORMATS.checks(name, ValueError)(is_valid)


def check(text: str, schema: Schema) -> None:
    """Raise what is wrong with `text`."""
    Draft202012Validator(schema, format_checker=FORMATS).validate(json.loads(text))


def automaton(schema: Any) -> Automaton:
    return Automaton.of(read_schema(schema))


def accepts(schema: Any, *texts: str) -> bool:
    machine = automaton(schema)
    return all(machine.matches(text) for text in texts)


def accepts_any(schema: Any, *texts: str) -> bool:
    machine = automaton(schema)
    return any(machine.matches(text) for text in texts)


def draw_text(pattern: Pattern, random: Random) -> str:
    """A text of `pattern`."""
    return "".join(_draw(pattern, random))


def _draw(pattern: Pattern, random: Random) -> Iterator[str]:
    if isinstance(pattern, Chars):
        low, high = random.choice(pattern.ranges)
        yield chr(random.randint(low, min(high, low + 300) if random.random() < 0.8 else high))
    elif isinstance(pattern, Sequence):
        for part in pattern.parts:
            yield from _draw(part, random)
    elif isinstance(pattern, Either):
        yield from _draw(random.choice(pattern.options), random)
    elif isinstance(pattern, Selection):
        needed = [*pattern.needed]
        while not any(taken := [each or random.random() < 0.5 for each in needed]):
            pass
        parts = [part for part, is_taken in zip(pattern.parts, taken, strict=True) if is_taken]
        for number, part in enumerate(parts):
            yield from _draw(pattern.separator, random) if number else ()
            yield from _draw(part, random)
    else:
        most = pattern.least + 3 if pattern.most is None else min(pattern.most, pattern.least + random.choice((3, 50)))
        for number in range(random.randint(pattern.least, most)):
            yield from _draw(pattern.separator, random) if number else ()
            yield from _draw(pattern.part, random)


NAMES = st.sampled_from(["a", "b", "ab", "name", "名", 'quo"te', "back\\slash", "", "tab\t", "é", "$ref", "enum"])
TEXTS = st.text(alphabet=st.sampled_from(string.ascii_letters + ' "\\/\n\té名😀'), max_size=6)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-30, 30), st.sampled_from([0.5, -1.25, 1e20]), TEXTS)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=4
)
KEPT_FORMATS = ("date", "time", "date-time", "duration", "uuid", "email", "ipv4", "ipv6", "hostname", "uri")
PATTERNS = (
    "^[a-z]+$",
    "^[A-Z]{2,4}-[0-9]{3}$",
    "^a|b$",
    "x",
    r'^"\\[^a]*$',
    r"^\d+(\.\d+)?$",
    r"^\S{1,5}$",
    "^(yes|no)$",
)


@st.composite
def bounded(draw: st.DrawFn, kind: str, least: st.SearchStrategy[Any], names: tuple[str, ...]) -> Schema:
    """A type with one or two bounds, the lower one not above the upper one."""
    bounds = sorted(draw(st.lists(least, min_size=len(names), max_size=len(names))))
    chosen = {name: bound for name, bound in zip(names, bounds, strict=True) if draw(st.booleans())}
    return {"type": kind, **chosen}


@st.composite
def numbers(draw: st.DrawFn) -> Schema:
    kind = draw(st.sampled_from(["integer", "number"]))
    bounds = st.integers(-1200, 1200) | st.sampled_from([-10.75, -1.0, -0.001, 0, 0.5, 1.5, 99.95, 12345.125])
    low = draw(st.sampled_from(["minimum", "exclusiveMinimum"]))
    high = draw(st.sampled_from(["maximum", "exclusiveMaximum"]))
    return draw(bounded(kind, bounds, (low, high)))


LEAVES = st.one_of(
    st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"type": "string"}, {"type": ["string", "null"]}]),
    numbers(),
    bounded("string", st.integers(0, 8), ("minLength", "maxLength")),
    st.sampled_from(PATTERNS).map(lambda pattern: {"type": "string", "pattern": pattern}),
    st.sampled_from(KEPT_FORMATS).map(lambda name: {"type": "string", "format": name}),
    st.lists(VALUES, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    VALUES.map(lambda value: {"const": value}),
    st.tuples(numbers(), st.sampled_from([1, 2, 5, 7, 8, 100])).map(lambda pair: {**pair[0], "multipleOf": pair[1]}),
    st.lists(SCALARS, min_size=1, max_size=4).map(lambda values: {"enum": values, "minimum": -10, "maxLength": 4}),
    st.lists(SCALARS, max_size=4).map(lambda each: {"type": "array", "items": {"enum": each}, "uniqueItems": True}),
)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    properties = draw(st.dictionaries(NAMES, inner, max_size=4))
    schema: Schema = {"type": "object", "properties": properties}
    schema["required"] = [name for name in properties if draw(st.booleans())]
    other = draw(st.none() | st.booleans() | inner)
    if other is not None:
        schema["additionalProperties"] = other
    if draw(st.booleans()) and not schema["required"]:
        schema["minProperties"] = 1 if properties else 0
    return schema


@st.composite
def maps(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    schema = {"type": "object", "additionalProperties": draw(inner)}
    if draw(st.booleans()):
        schema["propertyNames"] = {"pattern": "^[a-c]{1,3}$"}
    return {**schema, **draw(st.sampled_from([{}, {"maxProperties": 2}, {"minProperties": 1}]))}


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    schema = draw(bounded("array", st.integers(0, 3), ("minItems", "maxItems")))
    if draw(st.booleans()):
        schema["items"] = draw(inner)
    if draw(st.booleans()):
        schema["prefixItems"] = draw(st.lists(inner, min_size=1, max_size=2))
    return schema


@st.composite
def unions(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    options = draw(st.lists(inner, min_size=1, max_size=3))
    if draw(st.booleans()):
        return {"anyOf": options}
    tagged = [
        {"type": "object", "properties": {"kind": {"const": number}, "value": option}, "required": ["value"]}
        for number, option in enumerate(options)
    ]
    return {"oneOf": tagged}


@st.composite
def overlaid(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    """Two schemas of one kind that hold together."""
    if draw(st.booleans()):
        return {"allOf": [draw(numbers()), {"minimum": 5}], "maximum": 1500}
    return {"allOf": [draw(objects(inner)), draw(objects(inner))]}


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(objects(inner), maps(inner), arrays(inner), unions(inner), overlaid(inner)),
    max_leaves=6,
)


def draw_value(schema: Schema, random: Random) -> Any:
    """A value that is valid under a schema of `CORE`."""
    if "anyOf" in schema:
        return draw_value(random.choice(schema["anyOf"]), random)
    if "const" in schema or "enum" in schema:
        return random.choice(schema.get("enum", [schema.get("const")]))
    kind = schema["type"]
    if kind == "object":
        return {
            name: draw_value(each, random)
            for name, each in schema.get("properties", {}).items()
            if name in schema["required"] or random.random() < 0.5
        }
    if kind == "array":
        count = random.randint(schema.get("minItems", 0), schema.get("maxItems", schema.get("minItems", 0) + 3))
        return [draw_value(schema["items"], random) for _ in range(count)]
    if kind == "string":
        least = schema.get("minLength", 0)
        count = random.randint(least, schema.get("maxLength", least + 5))
        return "".join(random.choice(string.ascii_letters + ' "\\/\n\té名😀') for _ in range(count))
    if kind in {"integer", "number"}:
        highest: float | None = schema.get("maximum", schema.get("exclusiveMaximum"))
        below: float = -50 if highest is None else highest - 50
        low: float = schema["minimum"] if "minimum" in schema else schema.get("exclusiveMinimum", below)
        high = low + 50 if highest is None else highest
        return (
            random.randint(int(low), int(high)) if kind == "integer" else round(random.uniform(low, high), 3) + 0.0
        )  # not -0.0
    return None if kind == "null" else random.random() < 0.5


@st.composite
def core_objects(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    properties = draw(st.dictionaries(NAMES, inner, max_size=6))
    required = [name for name in properties if draw(st.booleans())]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


CORE = st.recursive(
    st.one_of(
        st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"type": "string"}]),
        numbers(),
        bounded("string", st.integers(0, 8), ("minLength", "maxLength")),
        st.lists(VALUES, min_size=1, max_size=4).map(lambda values: {"enum": values}),
        VALUES.map(lambda value: {"const": value}),
    ),
    lambda inner: st.one_of(
        core_objects(inner),
        st.tuples(bounded("array", st.integers(0, 3), ("minItems", "maxItems")), inner).map(
            lambda pair: {**pair[0], "items": pair[1]}
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    ),
    max_leaves=6,
)
"""Schemas all of whose values can be written."""

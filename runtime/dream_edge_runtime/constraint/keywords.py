"""What one JSON schema says by its own keywords, read and checked; what two say together.

JSON Schema, draft 2020-12 (https://json-schema.org/draft/2020-12/json-schema-core), and draft 7 where it differs.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fractions import Fraction
from itertools import zip_longest
from typing import Any

from .errors import InvalidSchema

MOST_LEVELS = 32
"""Schemas in schemas, and values in values."""
MOST_NUMBER = 10**30

Schema = Mapping[str, Any] | bool


@dataclass(frozen=True)
class Place:
    """A schema and its JSON pointer in the whole."""

    schema: Schema
    path: str

    def below(self, schema: Schema, *names: str | int) -> Place:
        """A schema that stands in this one."""
        escaped = (str(name).replace("~", "~0").replace("/", "~1") for name in names)
        return Place(schema, "/".join((self.path, *escaped)))


Places = tuple[Place, ...]
"""Schemas that must all hold for one value."""

TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
"""`integer` are whole numbers and `number` the others: a schema that says number means both."""

KEYWORDS_OF = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties", "propertyNames"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
APPLICATORS = ("$ref", "allOf", "anyOf", "oneOf")
BY_HAND = "Remove it here and check the value in your program"
REFUSED = {
    "not": "List what is allowed, by enum, const or anyOf",
    **dict.fromkeys(("if", "then", "else"), "Write each case as an option of anyOf"),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "dependencies"), "Write each case as an option of anyOf"),
    "patternProperties": "Describe keys by propertyNames and values by additionalProperties",
    **dict.fromkeys(("unevaluatedProperties", "unevaluatedItems"), "Say additionalProperties or items: false"),
    **dict.fromkeys(("contains", "minContains", "maxContains"), BY_HAND),
    **dict.fromkeys(("$dynamicRef", "$recursiveRef"), "Name the schema by $ref"),
    **dict.fromkeys(("schema", "json_schema"), "Give what stands under it: that is the schema"),
}
CONSTRAINTS = {
    *(keyword for keywords in KEYWORDS_OF.values() for keyword in keywords),
    *(*APPLICATORS, *REFUSED, "type", "enum", "const", "additionalItems"),
}
ANNOTATIONS = {
    *("title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly", "discriminator"),
    *("$schema", "$id", "id", "$comment", "$anchor", "$dynamicAnchor", "$vocabulary", "$defs", "definitions"),
    *("contentEncoding", "contentMediaType", "contentSchema", "nullable", "xml", "externalDocs"),
}
KNOWN = CONSTRAINTS | ANNOTATIONS
FOLDED = {keyword.lower(): keyword for keyword in CONSTRAINTS - {"not", "if", "then", "else"}}
"""What an unknown keyword may be a misspelling of; the short ones are too near to others, such as note."""


@dataclass(frozen=True, kw_only=True)
class Assertions:
    """All that one value must satisfy, without alternatives."""

    path: str
    trail: frozenset[int] = frozenset()  # of the schemas that say it
    types: frozenset[str] = TYPES
    mentioned: frozenset[str] = frozenset()  # types that its keywords are about
    values: tuple[Any, ...] | None = None
    properties: Mapping[str, Places] = field(default_factory=dict)
    named_only: bool = False
    additional: Places = ()
    names: Places = ()
    required: tuple[str, ...] = ()
    properties_least: int = 0
    properties_most: int | None = None
    prefix: tuple[Places, ...] = ()
    items: Places = ()
    items_least: int = 0
    items_most: int | None = None
    unique: bool = False
    length_least: int = 0
    length_most: int | None = None
    patterns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    low: tuple[Fraction, bool] | None = None  # and whether the bound itself is outside
    high: tuple[Fraction, bool] | None = None
    factors: tuple[int, ...] = ()

    def join(self, other: Assertions) -> Assertions:
        """Both. Each one's additionalProperties and items are about what its own properties and prefixItems leave."""
        names = dict.fromkeys((*self.properties, *other.properties))
        return Assertions(
            path=self.path,
            trail=self.trail | other.trail,
            types=self.types & other.types,
            mentioned=self.mentioned | other.mentioned,
            values=_common(self.values, other.values),
            properties={name: self.of_property(name) + other.of_property(name) for name in names},
            named_only=self.named_only or other.named_only,
            additional=self.additional + other.additional,
            names=self.names + other.names,
            required=tuple(dict.fromkeys(self.required + other.required)),
            properties_least=max(self.properties_least, other.properties_least),
            properties_most=lesser(self.properties_most, other.properties_most),
            prefix=tuple(
                (self.items if mine is None else mine) + (other.items if theirs is None else theirs)
                for mine, theirs in zip_longest(self.prefix, other.prefix)
            ),
            items=self.items + other.items,
            items_least=max(self.items_least, other.items_least),
            items_most=lesser(self.items_most, other.items_most),
            unique=self.unique or other.unique,
            length_least=max(self.length_least, other.length_least),
            length_most=lesser(self.length_most, other.length_most),
            patterns=tuple(dict.fromkeys(self.patterns + other.patterns)),
            formats=tuple(dict.fromkeys(self.formats + other.formats)),
            low=max(filter(None, (self.low, other.low)), default=None),
            high=_lower(self.high, other.high),
            factors=self.factors + other.factors,
        )

    def of_property(self, name: str) -> Places:
        """What a property must be."""
        return self.properties.get(name, self.additional)

    @property
    def weight(self) -> int:
        """About what it costs to join them with others."""
        return 2 + len(self.properties) + len(self.required) + len(self.prefix) + len(self.values or ())

    @property
    def kinds(self) -> frozenset[str]:
        """Types of the values that satisfy it."""
        return self.types if self.values is None else self.types & {type_of(value) for value in self.values}


def lesser(one: int | None, other: int | None) -> int | None:
    """The lesser limit; None is none."""
    return min((each for each in (one, other) if each is not None), default=None)


def _common(one: tuple[Any, ...] | None, other: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """Values in both; None is no limit. What is written differently, such as 1 and 1.0 or true, is not the same."""
    if one is None or other is None:
        return other if one is None else one
    texts = {json.dumps(value, sort_keys=True) for value in other}
    return tuple(value for value in one if json.dumps(value, sort_keys=True) in texts)


def type_of(value: Any) -> str:
    """The type of a JSON value."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, int | float):
        return "integer" if value == int(value) else "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def read_assertions(place: Place, spend: Callable[[int, str], None]) -> Assertions:
    """What `place` says by keywords of its own; `$ref`, `allOf`, `anyOf` and `oneOf` are left.

    Raises InvalidSchema for what is malformed, not kept or misspelled. `spend` is told what is to be done, and where.
    """
    if isinstance(place.schema, bool):
        return Assertions(path=place.path, types=TYPES if place.schema else frozenset())
    if not isinstance(place.schema, Mapping):
        raise InvalidSchema(place.path, "a schema is an object or a boolean. Write {} for any value")
    spend(1 + sum(1 if keyword in KNOWN else 20 for keyword in place.schema), place.path)
    for keyword, value in place.schema.items():
        _check_keyword(place, keyword, value)
    say = _Keywords(place, place.schema, spend)
    draft_7 = isinstance(place.schema.get("items"), list)  # since 2020 prefixItems says what a list of items said
    return Assertions(
        path=place.path,
        trail=frozenset({id(place.schema)}),
        types=say.types(),
        mentioned=frozenset(
            kind for kind, keywords in KEYWORDS_OF.items() if not place.schema.keys().isdisjoint(keywords)
        ),
        values=say.values(),
        properties=say.properties(),
        named_only="properties" in place.schema,
        additional=say.rest("additionalProperties"),
        names=say.rest("propertyNames"),
        required=say.texts("required"),
        properties_least=say.count("minProperties") or 0,
        properties_most=say.count("maxProperties"),
        prefix=tuple((each,) for each in say.schemas("items" if draft_7 else "prefixItems")),
        items=say.rest("additionalItems" if draft_7 else "items"),
        items_least=say.count("minItems") or 0,
        items_most=say.count("maxItems"),
        unique=bool(place.schema.get("uniqueItems")),
        length_least=say.count("minLength") or 0,
        length_most=say.count("maxLength"),
        patterns=say.text("pattern"),
        formats=say.text("format"),
        low=max(filter(None, (say.bound("minimum"), say.bound("exclusiveMinimum"))), default=None),
        high=_lower(say.bound("maximum"), say.bound("exclusiveMaximum")),
        factors=say.factors(),
    )


def _check_keyword(place: Place, keyword: Any, value: Any) -> None:
    if keyword in REFUSED:
        raise InvalidSchema(place.path, f"{keyword} cannot be kept. {REFUSED[keyword]}")
    if keyword == "$id" and place.path != "#" and not str(value).startswith("#"):
        raise InvalidSchema(place.path, "$id makes this a document of its own. Remove it, or move it to the top")
    if keyword in KNOWN or str(keyword).startswith("x-"):
        return
    if meant := get_close_matches(str(keyword)[:40].lower(), FOLDED, 1, cutoff=0.8):
        name = str(keyword)[:40]
        raise InvalidSchema(place.path, f"{name!r} is no keyword. Write {FOLDED[meant[0]]!r}, or x-{name} for a note")


@dataclass(frozen=True)
class _Keywords:
    """The values of keywords, checked."""

    place: Place
    schema: Mapping[str, Any]
    spend: Callable[[int, str], None]

    def wrong(self, keyword: str, requirement: str) -> InvalidSchema:
        try:
            shown = reprlib.repr(self.schema[keyword])
        except ValueError:  # Python writes out no integer of thousands of digits
            shown = "a huge number"
        return InvalidSchema(self.place.path, f"{keyword} is {shown}. It must be {requirement}")

    def types(self) -> frozenset[str]:
        if "type" not in self.schema:
            return TYPES
        said = self.schema["type"]
        names = said if isinstance(said, list) and said else [said]
        if not all(isinstance(name, str) and name in TYPES for name in names):
            raise self.wrong("type", f"one or a list of {', '.join(sorted(TYPES))}")
        return frozenset({*names, *(["integer"] if "number" in names else [])})

    def values(self) -> tuple[Any, ...] | None:
        const = (self.schema["const"],) if "const" in self.schema else None
        values = self.schema.get("enum")
        if "enum" in self.schema and not isinstance(values, list):
            raise self.wrong("enum", "a list of values")
        for value in (*(values or ()), *(const or ())):
            self.check_value(value, 0)
        return _common(None if values is None else tuple(values), const)

    def check_value(self, value: Any, level: int) -> None:
        """Refuse what is no JSON value, or too much of one."""
        self.spend(1 + (len(value) if isinstance(value, str) else 0), self.place.path)
        if isinstance(value, Mapping | list) and level < MOST_LEVELS:
            for each in (*value, *value.values()) if isinstance(value, Mapping) else value:
                self.check_value(each, level + 1)
            if isinstance(value, list) or all(isinstance(key, str) for key in value):
                return
        elif (
            value is None
            or isinstance(value, bool)
            or _is_number(value)
            or (isinstance(value, str) and is_unicode(value))
        ):
            return
        raise InvalidSchema(self.place.path, "enum or const holds what is no JSON value, or too large. Remove it")

    def properties(self) -> dict[str, Places]:
        properties = self.schema.get("properties", {})
        names = properties if isinstance(properties, Mapping) else ()
        self.spend(sum(1 + len(name) for name in names if isinstance(name, str)), self.place.path)
        if not isinstance(properties, Mapping) or not all(isinstance(name, str) and is_unicode(name) for name in names):
            raise self.wrong("properties", "an object: names and their schemas")
        return {name: (self.place.below(each, "properties", name),) for name, each in properties.items()}

    def rest(self, keyword: str) -> Places:
        """A schema, unless it allows everything."""
        value = self.schema.get(keyword, True)
        return () if value is True or value == {} else (self.place.below(value, keyword),)

    def schemas(self, keyword: str) -> Places:
        values = self.schema.get(keyword, [])
        if not isinstance(values, list):
            raise self.wrong(keyword, "a list of schemas")
        return tuple(self.place.below(each, keyword, number) for number, each in enumerate(values))

    def texts(self, keyword: str) -> tuple[str, ...]:
        values = self.schema.get(keyword, [])
        if not isinstance(values, list) or not all(isinstance(value, str) and is_unicode(value) for value in values):
            raise self.wrong(keyword, "a list of names")
        self.spend(sum(1 + len(value) for value in values), self.place.path)
        return tuple(dict.fromkeys(values))  # each once

    def text(self, keyword: str) -> tuple[str, ...]:
        if not isinstance(self.schema.get(keyword, ""), str):
            raise self.wrong(keyword, "a text")
        return (self.schema[keyword],) if keyword in self.schema else ()

    def count(self, keyword: str) -> int | None:
        if keyword not in self.schema:
            return None
        value = self.schema[keyword]
        if not _is_number(value) or value != int(value) or value < 0:
            raise self.wrong(keyword, "a whole number, 0 or more")
        return int(value)

    def bound(self, keyword: str) -> tuple[Fraction, bool] | None:
        if keyword not in self.schema:
            return None
        value = self.schema[keyword]
        if not _is_number(value) or abs(value) >= MOST_NUMBER:  # a float may be larger
            raise self.wrong(keyword, "a number of at most 30 digits")
        return Fraction(repr(value)), keyword.startswith("exclusive")

    def factors(self) -> tuple[int, ...]:
        bound = self.bound("multipleOf")
        if bound and (bound[0] < 1 or bound[0] % 1):
            raise self.wrong("multipleOf", f"a whole number, 1 or more; others cannot be kept. {BY_HAND}")
        return (int(bound[0]),) if bound else ()


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < MOST_NUMBER


def is_unicode(text: str) -> bool:
    """Whether `text` can be encoded: it holds no half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _lower(*bounds: tuple[Fraction, bool] | None) -> tuple[Fraction, bool] | None:
    """The lower upper bound."""
    return min(filter(None, bounds), key=lambda bound: (bound[0], not bound[1]), default=None)

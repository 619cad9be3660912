"""From a JSON schema to the pattern of the texts that are valid under it.

Every text of the pattern is valid; not every valid text is of the pattern, since models are to write as people do:

- properties come in the order of the schema; an object with `properties` has these only, and others just where
  `additionalProperties` is a schema that says what they are;
- different items (`uniqueItems`) come in the order of their `enum`;
- where `type` is missing, the other keywords tell it: `properties` means an object;
- white space is one space, or a line break and up to 8 of them, after colons and commas and inside brackets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import comb
from typing import Any
from urllib.parse import unquote

from .errors import ConstraintTooLarge, InvalidSchema
from .json_text import (
    BOOLEAN,
    COMMA,
    KEY,
    NOTHING,
    NULL,
    write_any,
    write_array,
    write_member,
    write_object,
    write_other_key,
    write_value,
)
from .keywords import BY_HAND, MOST_LEVELS, TYPES, Assertions, Place, Places, Schema, read_assertions, type_of
from .pattern import Either, Pattern
from .scalars import list_values, repeat, write_number, write_string

Above = tuple[frozenset[int], ...]
"""The schemas in which one stands, from the root down: those of one level together."""

TEXT: Schema = {"type": "string"}
DEPTH = 4
"""Levels of arrays and objects in a value of which a schema says nothing: 1,500 states, and twice that for 5."""
MOST_DEPTH = 6

MOST_SETS = 128
"""Arrays of different values, in one order."""
MOST_WORK = 30_000
"""Schemas, keywords and characters of names and values that are read, those behind a `$ref` each time."""


def read_schema(schema: Schema) -> Pattern:
    """The pattern of JSON texts that are valid under `schema`.

    `x-depth` at its top is how many levels of arrays and objects a value has of which it says nothing (without it 4),
    and how many levels of itself a schema has that refers to itself; `x-depth` in such a schema is how many that has.
    Without either it is refused.

    Raises:
        InvalidSchema: it is malformed, has a keyword that cannot be kept, or no value is valid.
        ConstraintTooLarge: it is too much to follow.
    """
    depth = _read_depth(Place(schema, "#"))
    pattern = _Reader(schema, DEPTH if depth is None else depth, depth is not None).read((Place(schema, "#"),), ())
    if pattern == NOTHING:
        raise InvalidSchema("#", "no value is valid under it. Look for types and bounds that exclude each other")
    return pattern


@dataclass
class _Reader:
    root: Schema
    depth: int
    may_repeat: bool
    room: int = MOST_WORK
    compared: dict[tuple[int, ...], list[Assertions]] = field(default_factory=dict)
    depths: dict[int, int] = field(default_factory=dict)  # of schemas that say how often they stand in themselves

    def spend(self, work: int, path: str) -> None:
        """Count what is read."""
        self.room -= work
        if self.room < 0:
            raise ConstraintTooLarge(
                f"the JSON schema has more than {MOST_WORK:,} keywords and characters of names and values, each $ref "
                f"followed, down to {path}"
            )

    def read(self, places: Places, above: Above) -> Pattern:
        """The pattern of values that satisfy all of `places`, which stand in `above`."""
        if len(above) > MOST_LEVELS:
            raise ConstraintTooLarge(f"the JSON schema has more than {MOST_LEVELS} levels, down to {places[0].path}")
        if not places:
            return write_any(self.depth - 1)
        options = []
        for assertions in self.alternatives_of_all(places):
            repeated = {schema: sum(schema in level for level in above) for schema in assertions.trail}
            if not (self.may_repeat or all(self.ends(schema, assertions.trail, above) for schema in repeated)):
                raise InvalidSchema(
                    assertions.path,
                    "the schema refers to itself, so that values could nest without end. Write out the levels there "
                    'may be, or say how many, in it or at the top: "x-depth": 3',
                )
            most = self.depth if self.may_repeat else MOST_LEVELS
            if all(times < self.depths.get(schema, most) for schema, times in repeated.items()):
                options.append(self.write(assertions, (*above, assertions.trail)))
        options = [option for option in options if option != NOTHING]
        return options[0] if len(options) == 1 else Either(tuple(options))

    def ends(self, schema: int, trail: frozenset[int], above: Above) -> bool:
        """Whether a schema does not stand in itself, or between itself and itself one that says how often it does."""
        last = max((number for number, level in enumerate(above) if schema in level), default=None)
        return last is None or any(not self.depths.keys().isdisjoint(level) for level in (*above[last + 1 :], trail))

    def alternatives_of_all(self, places: Places, *, exclusive: bool = True) -> list[Assertions]:
        """All that `places` ask for together, without alternatives within."""
        joined = [Assertions(path=places[0].path if places else "#")]
        for place in places:
            joined = self.join(joined, self.alternatives(place, (), exclusive))
        return joined

    def join(self, some: list[Assertions], others: list[Assertions]) -> list[Assertions]:
        """Each of `some` with each of `others`."""
        work = len(others) * sum(each.weight for each in some) + len(some) * sum(each.weight for each in others)
        self.spend(work, others[0].path if others else "#")
        return [one.join(other) for one in some for other in others]

    def alternatives(self, place: Place, within: tuple[int, ...], exclusive: bool) -> list[Assertions]:
        """What `place` asks for, without alternatives within; options of oneOf exclude each other if `exclusive`."""
        schema = place.schema
        found = [read_assertions(place, self.spend)]
        if isinstance(schema, bool):
            return found if schema else []
        if (depth := _read_depth(place)) is not None:
            self.depths[id(schema)] = depth
        if id(schema) in within:
            raise InvalidSchema(place.path, "the schema leads back to itself. Let $ref name another one")
        if len(within) > MOST_LEVELS:
            raise ConstraintTooLarge(f"the JSON schema has more than {MOST_LEVELS} levels, down to {place.path}")
        within = (*within, id(schema))
        if "$ref" in schema:
            found = self.join(found, self.alternatives(self.resolve(place), within, exclusive))
        for each in _options(place, "allOf"):
            found = self.join(found, self.alternatives(each, within, exclusive))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                options = [
                    self.join(found, self.alternatives(each, within, exclusive)) for each in _options(place, keyword)
                ]
                if keyword == "oneOf" and exclusive:
                    options = self.exclude(options, place)
                found = [each for option in options for each in option]
        return found

    def resolve(self, place: Place) -> Place:
        """What `$ref` names."""
        assert isinstance(place.schema, Mapping)
        reference = place.schema["$ref"]
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            shown = str(reference)[:80]
            raise InvalidSchema(place.path, f"$ref {shown!r} names no place in this schema. Write #/$defs/NAME")
        found: Any = self.root
        for name in unquote(reference).split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, Mapping) and name in found:
                found = found[name]
            else:
                raise InvalidSchema(place.path, f"there is nothing at $ref {reference[:80]!r}. Define it there")
        return Place(found, unquote(reference))

    def exclude(self, options: list[list[Assertions]], place: Place) -> list[list[Assertions]]:
        """`options` of oneOf, if a value that satisfies one cannot satisfy another.

        They may need a property that tells them apart: that must then be there, though the schema leaves it optional.
        """
        assert isinstance(place.schema, Mapping)
        first = next((assertions for option in options for assertions in option if assertions.properties), None)
        named = place.schema.get("discriminator")
        tags = [named.get("propertyName")] if isinstance(named, Mapping) else []
        for tag in (None, *tags, *(first.properties if first else ())):
            self.spend(len(options), place.path)
            if isinstance(tag, str):
                tagged = [[replace(each, required=(*each.required, tag)) for each in option] for option in options]
            else:
                tagged = options
            pairs = ((one, other) for some, others in combinations(tagged, 2) for one in some for other in others)
            if all(self.are_apart(one, other) for one, other in pairs):
                return tagged
        raise InvalidSchema(
            place.path,
            "oneOf has options that one value may satisfy together. Write anyOf, or give each option a property with a "
            "const of its own",
        )

    def are_apart(self, one: Assertions, other: Assertions, *, deep: bool = True) -> bool:
        """Whether it is certain that no value satisfies both."""
        self.spend(1, one.path)
        both = one.kinds & other.kinds
        if not both:
            return True
        if one.values is not None and other.values is not None:
            self.spend(len(one.values) * len(other.values), one.path)
            return not any(mine == theirs for mine in one.values for theirs in other.values)
        required = dict.fromkeys((*one.required, *other.required)) if deep and both == {"object"} else ()
        return any(
            all(
                self.are_apart(mine, theirs, deep=False)
                for mine in self.alternatives_of_property(one, name)
                for theirs in self.alternatives_of_property(other, name)
            )
            for name in required
        )

    def alternatives_of_property(self, assertions: Assertions, name: str) -> list[Assertions]:
        """What a property must be, for comparisons; read once, as each is compared with many."""
        places = assertions.of_property(name)
        key = tuple(id(place.schema) for place in places)
        if key not in self.compared:
            self.compared[key] = self.alternatives_of_all(places, exclusive=False)
        return self.compared[key]

    def write(self, assertions: Assertions, above: Above) -> Pattern:
        """The pattern of values that satisfy `assertions`."""
        if assertions.values is not None:
            return Either(tuple(write_value(value) for value in list_values(assertions)))
        kinds = assertions.types
        if kinds == TYPES and assertions.mentioned:
            kinds = assertions.mentioned
        options: list[Pattern] = []
        for kind in sorted(kinds):
            if kind == "object":
                options.append(self.write_object(assertions, above))
            elif kind == "array":
                options.append(self.write_array(assertions, above))
            elif kind == "string":
                options.append(write_string(assertions))
            elif kind in {"null", "boolean"}:
                options.append(NULL if kind == "null" else BOOLEAN)
            elif kind == "number" or "number" not in kinds:
                options.append(write_number(assertions, whole=kind == "integer"))
        return Either(tuple(option for option in options if option != NOTHING))

    def write_array(self, assertions: Assertions, above: Above) -> Pattern:
        least, most = assertions.items_least, assertions.items_most
        if assertions.unique and (most is None or most > 1):
            return self.write_distinct(assertions)
        elements: list[Pattern] = []
        for places in assertions.prefix[:most]:
            element = self.read(places, above)
            if element == NOTHING:
                most = len(elements)
                break
            elements.append(element)
        fixed = len(elements)
        rest: Pattern = NOTHING
        if (most is None or most > fixed) and (assertions.items or not assertions.prefix or least > fixed):
            rest = self.read(assertions.items, above)
        if rest != NOTHING:
            limit = None if most is None else most - fixed
            elements.append(repeat(rest, max(least - fixed, 1), limit, assertions.path, COMMA))
        elif least > fixed:
            return NOTHING
        return NOTHING if most is not None and least > most else write_array(elements, least)

    def write_distinct(self, assertions: Assertions) -> Pattern:
        """Arrays of given values, all different, in the order in which they are given."""
        options = [] if assertions.prefix else self.alternatives_of_all(assertions.items)
        is_kept = bool(options) and all(option.values is not None for option in options)
        given = [(type_of(value), value) for option in options for value in list_values(option)]
        is_kept = is_kept and not {"object", "array"}.intersection(kind for kind, _ in given)
        values = [write_value(value) for _, value in dict.fromkeys(given)] if is_kept else []  # 1 and 1.0 are the same
        most = len(values) if assertions.items_most is None else min(assertions.items_most, len(values))
        counts = range(assertions.items_least, most + 1)
        is_kept = is_kept and len(values) <= MOST_SETS and sum(comb(len(values), each) for each in counts) <= MOST_SETS
        if not is_kept:
            remedy = f"Let items be an enum of up to 7 values, or lower maxItems. {BY_HAND}"
            raise InvalidSchema(assertions.path, f"uniqueItems cannot be kept here. {remedy}")
        return Either(tuple(write_array(each, len(each)) for count in counts for each in combinations(values, count)))

    def write_object(self, assertions: Assertions, above: Above) -> Pattern:
        members: list[tuple[Pattern, bool]] = []
        names = dict.fromkeys((*assertions.properties, *assertions.required))
        if names and assertions.names:
            raise InvalidSchema(
                assertions.path, "propertyNames cannot be kept together with properties. Remove one of them"
            )
        for name in names:
            value = self.read(assertions.of_property(name), above)
            if value != NOTHING:
                members.append((write_member(name, value), name in assertions.required))
            elif name in assertions.required:
                return NOTHING
        least, most = assertions.properties_least, assertions.properties_most
        needed = sum(is_needed for _, is_needed in members)
        is_closed = assertions.named_only and not assertions.additional
        others = NOTHING if is_closed else self.read(assertions.additional, above)
        key = NOTHING if others == NOTHING else self.write_key(assertions, names, above)
        others = NOTHING if key == NOTHING else write_member(key, others)
        if most is not None and most <= len(members):
            others = NOTHING
            if most == needed:
                members = [member for member in members if member[1]]
            elif most < len(members):
                raise self.cannot_count(assertions, "maxProperties")
        if others == NOTHING and least == len(members):
            members = [(member, True) for member, _ in members]
        elif others == NOTHING and least > len(members):
            return NOTHING
        elif least > max(needed, 1):
            raise self.cannot_count(assertions, "minProperties")
        if others != NOTHING:
            limit = None if most is None else most - len(members)
            members.append((repeat(others, 1, limit, assertions.path, COMMA), False))
        return write_object(members, empty=least == 0)

    def write_key(self, assertions: Assertions, names: Mapping[str, None], above: Above) -> Pattern:
        """Keys but those of `names`."""
        if not names:
            return self.read((*assertions.names, Place(TEXT, assertions.path)), above) if assertions.names else KEY
        if max(map(len, names)) > MOST_LEVELS:
            raise ConstraintTooLarge(
                f"{assertions.path} in the JSON schema has long names besides additionalProperties"
            )
        return write_other_key(names)

    def cannot_count(self, assertions: Assertions, keyword: str) -> InvalidSchema:
        """Properties that may be there or not are not counted."""
        return InvalidSchema(
            assertions.path, f"{keyword} cannot be kept here. Say by required which properties there must be"
        )


def _read_depth(place: Place) -> int | None:
    depth = place.schema.get("x-depth") if isinstance(place.schema, Mapping) else None
    if depth is not None and depth not in range(1, MOST_DEPTH + 1):
        raise InvalidSchema(place.path, f"x-depth must be a whole number from 1 to {MOST_DEPTH}")
    return depth


def _options(place: Place, keyword: str) -> Places:
    """The schemas of `allOf`, `anyOf` or `oneOf`."""
    assert isinstance(place.schema, Mapping)
    values = place.schema.get(keyword, [])
    if not isinstance(values, list) or (keyword in place.schema and not values):
        raise InvalidSchema(place.path, f"{keyword} must be a list of schemas, at least one")
    return tuple(place.below(each, keyword, number) for number, each in enumerate(values))

"""Schemas as programs send them: of pydantic's models, of OpenAI's strict mode and tools, of draft 7."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from enum import Enum
from ipaddress import IPv4Address
from random import Random
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from jsonschema import Draft7Validator
from pydantic import BaseModel, ConfigDict, Field, HttpUrl

from dream_edge_runtime.constraint.automaton import Automaton
from dream_edge_runtime.constraint.errors import InvalidSchema
from dream_edge_runtime.constraint.schema import read_schema
from support.schemas import check, draw_text


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Address(BaseModel):
    street: str
    number: int = Field(ge=1, le=999)
    code: str = Field(pattern=r"^[0-9]{5}$")


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: Annotated[int, Field(gt=0, lt=10)]


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: Annotated[str, Field(min_length=1, max_length=20)]


class Person(BaseModel):
    """Someone with all kinds of fields."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="first and last", examples=["Ann Lee"])
    age: int | None = None
    colour: Colour
    mood: Literal["good", "bad", 3]
    address: Address
    other_addresses: list[Address] = Field(default_factory=list, max_length=2)
    score: float = Field(ge=0, le=1)
    pet: Cat | Dog
    tagged_pet: Cat | Dog = Field(discriminator="kind")
    counts: dict[str, int]
    by_colour: dict[Colour, bool]
    notes: dict[str, Any] = {}
    pair: tuple[int, str]
    born: date
    seen: datetime
    spent: timedelta
    key: UUID
    host: IPv4Address
    site: HttpUrl | None = None
    union: int | str | list[bool]


class Empty(BaseModel):
    pass


class Sets(BaseModel):
    colours: set[Colour]
    days: set[Literal["Monday", "Tuesday", 3]]
    minutes: Annotated[int, Field(multiple_of=15, ge=0, lt=60)]
    price: Annotated[int, Field(multiple_of=5, gt=0)]


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    a: int


@pytest.mark.parametrize("model", [Person, Address, Cat, Empty, Open, Sets])
@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_every_text_is_a_model(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> None:
    schema = model.model_json_schema(mode=mode)
    pattern = read_schema(schema)
    machine = Automaton.of(pattern)
    for seed in range(60):
        text = draw_text(pattern, Random(seed))
        assert machine.matches(text)
        check(text, schema)
        model.model_validate_json(text)


def test_a_model_can_be_written() -> None:
    person = Person(
        name='Zoë "Z" O\'Neil',
        colour=Colour.GREEN,
        mood=3,
        address=Address(street="Main St", number=999, code="01234"),
        other_addresses=[Address(street="", number=1, code="99999")],
        score=0.125,
        pet=Dog(name="Rex"),
        tagged_pet=Cat(lives=9),
        counts={"a b": -3, "": 0},
        by_colour={Colour.RED: True},
        notes={"x": [1, {"y": None}]},
        pair=(7, "seven"),
        born=date(2000, 2, 29),
        seen=datetime.fromisoformat("2024-05-01T10:00:00Z"),
        spent=timedelta(days=1, hours=2),
        key=UUID(int=7),
        host=IPv4Address("10.0.0.1"),
        site=HttpUrl("https://example.org/a?b=c"),
        union=[True],
    )
    machine = Automaton.of(read_schema(Person.model_json_schema()))
    assert machine.matches(person.model_dump_json())
    assert machine.matches(person.model_dump_json(indent=2))
    assert machine.matches(json.dumps(person.model_dump(mode="json"), ensure_ascii=False))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (set[str], "#/properties/a: uniqueItems cannot be kept"),
        (Annotated[float, Field(multiple_of=0.01)], "#/properties/a: multipleOf is 0.01. It must be a whole number"),
    ],
)
def test_fields_that_cannot_be_kept(kind: Any, said: str) -> None:
    model: type[BaseModel] = type("Model", (BaseModel,), {"__annotations__": {"a": kind}})
    with pytest.raises(InvalidSchema, match=said):
        read_schema(model.model_json_schema())


class Node(BaseModel):
    value: int
    children: list[Node]


def test_a_model_of_itself() -> None:
    schema = Node.model_json_schema()
    with pytest.raises(InvalidSchema, match="x-depth"):
        read_schema(schema)
    pattern = read_schema({**schema, "x-depth": 3})
    for seed in range(50):
        Node.model_validate_json(draw_text(pattern, Random(seed)))
    assert Automaton.of(pattern).matches('{"value":1,"children":[{"value":2,"children":[]}]}')


STRICT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"explanation": {"type": "string"}, "output": {"type": ["string", "null"]}},
                "required": ["explanation", "output"],
                "additionalProperties": False,
            },
        },
        "unit": {"type": ["string", "null"], "description": "of the answer", "enum": ["cm", "m", None]},
        "answer": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/fraction"}]},
    },
    "$defs": {
        "fraction": {
            "type": "object",
            "properties": {"over": {"type": "integer"}, "under": {"type": "integer", "exclusiveMinimum": 0}},
            "required": ["over", "under"],
            "additionalProperties": False,
        }
    },
    "required": ["steps", "unit", "answer"],
    "additionalProperties": False,
}


def test_the_strict_mode_of_openai() -> None:
    pattern = read_schema(STRICT)
    machine = Automaton.of(pattern)
    for seed in range(100):
        check(draw_text(pattern, Random(seed)), STRICT)
    assert machine.matches(
        '{"steps":[{"explanation":"8x = 3","output":null}],"unit":"m","answer":{"over":3,"under":8}}'
    )
    assert machine.matches('{"steps": [], "unit": null, "answer": -2.5e-3}')
    assert not machine.matches('{"unit": null, "steps": [], "answer": 1}')
    assert not machine.matches('{"steps": [], "unit": null, "answer": {"over": 3, "under": 0}}')


DRAFT_7: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "$id": "https://example.org/root.json",
    "definitions": {
        "point": {"type": "array", "items": [{"type": "number"}, {"type": "number"}], "additionalItems": False}
    },
    "type": "object",
    "properties": {
        "from": {"$ref": "#/definitions/point"},
        "to": {"$id": "#/properties/to", "allOf": [{"$ref": "#/definitions/point"}], "minItems": 2},
    },
    "required": ["from", "to"],
}


def test_draft_7() -> None:
    pattern = read_schema(DRAFT_7)
    for seed in range(100):
        Draft7Validator(DRAFT_7).validate(json.loads(draw_text(pattern, Random(seed))))
    assert Automaton.of(pattern).matches('{"from": [0, 1.5], "to": [2, 3]}')
    assert not Automaton.of(pattern).matches('{"from": [0, 1.5], "to": [2]}')


def test_arguments_of_a_tool_without_any() -> None:
    machine = Automaton.of(read_schema({"type": "object", "properties": {}}))
    assert machine.matches("{}")
    assert not machine.matches('{"a": 1}')

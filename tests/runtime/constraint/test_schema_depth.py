"""How often a schema stands in itself, and levels of what it says nothing of."""

from __future__ import annotations

import pytest

from dream_edge_runtime.constraint.errors import InvalidSchema
from dream_edge_runtime.constraint.schema import read_schema
from support.schemas import Schema, accepts, accepts_any, automaton

TREE: Schema = {
    "$defs": {
        "Tree": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]}}}
    },
    "$ref": "#/$defs/Tree",
}
NESTED: Schema = {"type": "array", "items": {"$ref": "#"}}


@pytest.mark.parametrize("schema", [TREE, NESTED])
def test_a_schema_that_refers_to_itself_needs_a_depth(schema: Schema) -> None:
    with pytest.raises(InvalidSchema, match="x-depth"):
        read_schema(schema)


def test_a_schema_refers_to_itself_as_often_as_it_says() -> None:
    tree = {**TREE, "x-depth": 3}
    assert accepts(tree, "{}", '{"next": null}', '{"next": {"next": {"next": null}}}')
    assert not accepts(tree, '{"next": {"next": {"next": {}}}}')
    assert accepts({**NESTED, "x-depth": 2}, "[[], []]")
    assert not accepts({**NESTED, "x-depth": 2}, "[[[]]]")
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"], "x-depth": 3}
    with pytest.raises(InvalidSchema, match="no value"):
        read_schema(endless)


def test_a_definition_says_how_often_it_stands_in_itself() -> None:
    node = {"type": "array", "prefixItems": [{"$ref": "#/$defs/Leaf"}], "items": {"$ref": "#/$defs/Node"}}
    leaf = {"type": "object", "properties": {"more": {"$ref": "#/$defs/Leaf"}}}
    schema: Schema = {"$ref": "#/$defs/Node", "$defs": {"Node": {**node, "x-depth": 2}, "Leaf": {**leaf, "x-depth": 3}}}
    assert accepts(schema, "[]", '[{"more": {"more": {}}}, [{}], [{"more": {"more": {}}}]]')
    assert not accepts_any(schema, "[{}, [{}, []]]", '[{"more": {"more": {"more": {}}}}]')
    around = {"type": "object", "properties": {"a": {"$ref": "#/$defs/Node"}}, "$defs": schema["$defs"]}
    assert accepts(around, '{"a": [{}, [{}]]}')
    with pytest.raises(InvalidSchema, match=r"Leaf/properties/more: .*in it or at the top"):
        read_schema({**schema, "$defs": {**schema["$defs"], "Leaf": leaf}})
    deep = {**schema, "x-depth": 1, "$defs": {**schema["$defs"], "Leaf": leaf}}
    assert accepts(deep, "[{}, [{}]]")
    assert not accepts_any(deep, '[{"more": {}}]', "[{}, [{}, []]]")


def test_schemas_that_refer_to_each_other_end_where_one_says_so() -> None:
    person: Schema = {"type": "object", "properties": {"pets": {"type": "array", "items": {"$ref": "#/$defs/Pet"}}}}
    pet = {"type": "object", "properties": {"owner": {"$ref": "#/$defs/Person"}}, "x-depth": 2}
    schema: Schema = {"$ref": "#/$defs/Person", "$defs": {"Person": person, "Pet": pet}}
    assert accepts(schema, '{"pets": [{"owner": {"pets": [{"owner": {"pets": []}}]}}]}')
    assert not accepts(schema, '{"pets": [{"owner": {"pets": [{"owner": {"pets": [{}]}}]}}]}')
    person["properties"]["friend"] = {"$ref": "#/$defs/Person"}  # without end, though Pet is not
    with pytest.raises(InvalidSchema, match="Person/properties/friend: the schema refers to itself"):
        read_schema(schema)


def test_depth_of_what_a_schema_says_nothing_of() -> None:
    def nest(levels: int) -> str:
        return "[" * levels + "]" * levels

    for schema in (True, {}, {"type": "array"}):
        assert accepts(schema, nest(4), '[{"a": [{}]}]')
        assert not accepts(schema, nest(5))
    assert accepts({"x-depth": 2}, nest(2))
    assert not accepts({"x-depth": 2}, nest(3))
    assert accepts({}, "1", "-2.5e-10", "null", "true", '"a"')
    assert len(automaton({}).table) < 3000

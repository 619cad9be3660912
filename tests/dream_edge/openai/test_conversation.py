"""Conversations with tools become the turns that Qwen2.5's template writes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dream_edge.openai.conversation import ChatMessage, Tool, list_turns, schema_of_calls

jsonschema: Any = pytest.importorskip("jsonschema")

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Wie ist das Wetter für …?",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME: Any = {"type": "function", "function": {"name": "time"}}
CALL: Any = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Köln"}'}}
WRITTEN = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'


def turns(messages: list[dict[str, Any]], *tools: dict[str, Any], system: str | None = "Be brief.") -> list[Any]:
    told = list_turns(
        [ChatMessage.model_validate(each) for each in messages], [*map(Tool.model_validate, tools)], system
    )
    return [(turn["role"], turn["content"]) for turn in told]


def test_tools_are_described_after_the_system_turn() -> None:
    described = (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        '{"type": "function", "function": {"name": "weather", "description": "Wie ist das Wetter für …?", '
        '"parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}\n'
        '{"type": "function", "function": {"name": "time"}}\n'
        "</tools>\n\nFor each function call, return a json object with function name and arguments within "
        '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
        "</tool_call>"
    )
    hello = {"role": "user", "content": "Hello"}
    assert turns([hello], WEATHER, TIME) == [("system", f"Be brief.\n\n{described}"), ("user", "Hello")]
    assert turns([hello], WEATHER, TIME, system=None) == [("system", described), ("user", "Hello")]
    own = turns([{"role": "developer", "content": "Rhyme."}, hello], WEATHER, TIME)
    assert own == [("system", f"Rhyme.\n\n{described}"), ("user", "Hello")]
    assert turns([hello]) == [("user", "Hello")]


def test_calls_and_their_results_are_turns() -> None:
    found = turns(
        [
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "I look.", "tool_calls": [CALL, {**CALL, "index": 1}]},
            {"role": "tool", "content": "rain", "tool_call_id": "call_1", "name": "weather"},
            {"role": "tool", "content": [{"type": "text", "text": "su"}, {"type": "text", "text": "n"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "", "tool_call_id": "call_1"},
            {"role": "user", "content": "So?"},
        ]
    )
    assert found == [
        ("user", "And?"),
        ("assistant", f"I look.\n{WRITTEN}\n{WRITTEN}"),
        ("user", "<tool_response>\nrain\n</tool_response>\n<tool_response>\nsun\n</tool_response>"),
        ("assistant", WRITTEN),
        ("user", "<tool_response>\n\n</tool_response>"),
        ("user", "So?"),
    ]


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "user"}, "content is missing"),
        ({"role": "user", "content": "a", "tool_calls": [CALL]}, "tool_calls are the assistant's"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, "no JSON object"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, "arguments of f"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": ""}}]}, "tool_calls.0.function.name"),
        ({"role": "assistant", "tool_calls": [{"type": "custom", "function": {"name": "f"}}]}, "tool_calls.0.type"),
    ],
)
def test_messages_that_cannot_be_are_named(message: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ChatMessage.model_validate(message)


def test_references_follow_the_parameters_into_the_schema_of_a_call() -> None:
    place = {"$defs": {"place": {"type": "object", "properties": {"$ref": {"type": "string"}}, "required": ["$ref"]}}}
    go = {"name": "go", "parameters": {"properties": {"to": {"$ref": "#/$defs/place"}}, "required": ["to"], **place}}
    tools = [Tool.model_validate({"type": "function", "function": each}) for each in (go, {"name": "stay"})]
    for some in (tools, tools[:1]):
        schema = schema_of_calls(some)
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate({"name": "go", "arguments": {"to": {"$ref": "x"}}}, schema)
        for wrong in ({"name": "go", "arguments": {"to": {}}}, {"name": "go"}, {"name": "run", "arguments": {}}):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(wrong, schema)
    jsonschema.validate({"name": "stay", "arguments": {}}, schema_of_calls(tools))

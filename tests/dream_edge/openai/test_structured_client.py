"""Answers that programs read, through OpenAI's own client: texts that must match, and calls of tools."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel, Field

QUESTION: Any = [{"role": "user", "content": "What sound does the dog make?"}]
WORDS = ["bark", "meow", "a long, long song"]


@pytest.mark.parametrize(
    "asked",
    [
        {"choices": WORDS},
        {"guided_choice": WORDS},
        {"structured_outputs": {"choice": WORDS}},
        {"regex": "bark|meow|a (long, )*long song"},
        {"guided_regex": "bark|meow|a (long, )*long song"},
        {"structured_outputs": {"regex": "bark|meow|a (long, )*long song"}, "guided_decoding_backend": "outlines"},
    ],
    ids=json.dumps,
)
def test_a_text_matches_whatever_the_words_it_was_asked_in(client: openai.OpenAI, asked: dict[str, Any]) -> None:
    hot: Any = {"model": "tiny", "max_tokens": 24, "temperature": 2.0, "extra_body": asked}
    told = client.chat.completions.create(messages=QUESTION, n=4, **hot)
    assert all(re.fullmatch("bark|meow|a (long, )*long song", choice.message.content or "") for choice in told.choices)
    assert all(choice.finish_reason == "stop" for choice in told.choices)
    streamed = client.chat.completions.create(messages=QUESTION, stream=True, seed=3, **hot)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert text == client.chat.completions.create(messages=QUESTION, seed=3, **hot).choices[0].message.content
    raw = client.completions.create(prompt="The dog ", **hot)
    assert re.fullmatch("bark|meow|a (long, )*long song", raw.choices[0].text)


def test_a_text_that_matches_is_complete_even_where_it_takes_all_the_room(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "max_tokens": 4, "temperature": 2.0, "extra_body": {"regex": "[a-z ]+"}}
    told = client.chat.completions.create(messages=QUESTION, n=8, **asked)
    assert {choice.finish_reason for choice in told.choices} == {"stop"}
    assert told.usage is not None
    assert told.usage.completion_tokens > 16


class Place(BaseModel):
    """Where it is."""

    city: str = Field(max_length=12)
    floor: int = Field(ge=0, le=9)


class Animal(BaseModel):
    """What it is."""

    kind: Literal["dog", "cat", "cow"]
    legs: int = Field(ge=0, le=8)
    wild: bool
    homes: list[Place] = Field(max_length=2)


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_pydantic_models_are_parsed(client: openai.OpenAI, temperature: float) -> None:
    asked: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 120, "seed": 1, "temperature": temperature}
    told = client.chat.completions.parse(response_format=Animal, **asked).choices[0]
    assert isinstance(told.message.parsed, Animal)
    assert told.finish_reason == "stop"
    with client.chat.completions.stream(response_format=Animal, **asked) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == told.message.parsed
    for extra in ({"guided_json": Animal.model_json_schema()}, {"json_schema": Animal.model_json_schema()}):
        text = client.chat.completions.create(extra_body=extra, **asked).choices[0].message.content
        Animal.model_validate_json(text or "")


@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_object", "schema": {"type": "object"}}},
        {"json_schema": True},
        {"structured_outputs": {"json": '{"type": "object"}'}},
    ],
    ids=json.dumps,
)
def test_any_object_may_be_asked_for(client: openai.OpenAI, asked: dict[str, Any]) -> None:
    hot: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 24, "temperature": 1.5, "n": 4}
    for choice in client.chat.completions.create(extra_body=asked, **hot).choices:
        assert isinstance(json.loads(choice.message.content or ""), dict)


def test_a_hole_matches_what_it_must(url: str) -> None:
    pieces: list[dict[str, Any]] = [{"text": "The "}, {"hole": 3, "choices": ["dog", "cat"]}]
    pieces += [{"text": " is "}, {"hole": 4, "regex": "[0-9]+"}]
    told = httpx.post(f"{url}/v1/fill", json={"pieces": pieces}).json()["choices"][0]["text"]
    assert re.fullmatch("The (dog|cat) is [0-9]{1,4}", told)
    between = {"prompt": "The ", "suffix": " barks.", "max_tokens": 3, "regex": "d.g|c.t"}
    assert re.fullmatch("d.g|c.t", httpx.post(f"{url}/v1/fim/completions", json=between).json()["choices"][0]["text"])
    vim = {"input_prefix": "{\n  a: ", "input_suffix": "\n}", "n_predict": 3, "json_schema": {"enum": ["dog", 17]}}
    assert httpx.post(f"{url}/infill", json=vim | {"grammar": ""}).json()["content"] in ('"dog"', "17")
    refused = httpx.post(f"{url}/infill", json=vim | {"grammar": "root ::= [0-9]"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "grammar")


@pytest.mark.parametrize(
    ("asked", "message", "param"),
    [
        ({"regex": "a", "choices": ["a"]}, "regex and choices contradict each other", None),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "contradict each other", None),
        ({"guided_regex": "a", "regex": "a"}, "said twice", None),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "contradict each other", None),
        ({"response_format": {"type": "json_object"}, "json_schema": True}, "said twice", None),
        ({"response_format": {"type": "json_object"}, "regex": "a"}, "contradict each other", None),
        ({"json_schema": {"type": "strange"}}, "JSON schema", None),
        ({"json_schema": False}, "json_schema", "json_schema"),
        ({"regex": "("}, "regex '\\('", None),
        ({"regex": "a{400}"}, "takes [0-9]+ tokens, and there is room for 16", None),
        ({"choices": []}, "at least 1", "choices"),
        ({"choices": ["a"], "stop": ["b"]}, "stop", "stop"),
        ({"choices": ["a"], "thinking": True}, "thinking", "thinking"),
        ({"grammar": "root ::= [0-9]"}, "grammar: grammars are not known.*Leave it out", "grammar"),
        ({"guided_grammar": "root ::= [0-9]"}, "grammars are not known", "guided_grammar"),
        ({"structured_outputs": {"grammar": "root ::= [0-9]"}}, "no field", "structured_outputs.grammar"),
        ({"guided_json": "{"}, "not valid JSON", "guided_json"),
        ({"response_format": {"type": "json_schema"}}, "json_schema goes with", "response_format"),
        ({"response_format": {"type": "text", "schema": {}}}, "schema goes with", "response_format"),
        ({"response_format": {"type": "grammar"}}, "json_schema", "response_format.type"),
    ],
)
def test_what_cannot_be_matched_is_refused(
    client: openai.OpenAI, asked: dict[str, Any], message: str, param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as raised:
        client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=16, extra_body=asked)
    assert raised.value.param == param


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


@pytest.mark.parametrize("parallel", [True, False])
def test_calls_in_the_models_own_words_are_calls(client: openai.OpenAI, parallel: bool) -> None:
    """The tiny model writes none by itself, so its words are given."""
    asked: Any = {"model": "tiny", "messages": QUESTION, "tools": [WEATHER], "parallel_tool_calls": parallel}
    asked |= {"max_tokens": 150, "extra_body": {"end_with": f" I look.\n{CALL}\n{CALL}"}, "temperature": 0}
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls or []
    assert [(call.type, call.id[:5]) for call in calls] == [("function", "call_")] * (2 if parallel else 1)
    assert len({call.id for call in calls}) == len(calls)
    functions: list[Any] = [call.function for call in calls if call.type == "function"]
    assert all((each.name, json.loads(each.arguments)) == ("weather", {"city": "Oslo"}) for each in functions)
    assert (choice.message.content or "").endswith(" I look.")
    with client.chat.completions.stream(**asked) as stream:
        final: Any = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.content == choice.message.content
    assert [call.function.arguments for call in final.message.tool_calls] == [each.arguments for each in functions]
    shown = {**asked, "extra_body": {**asked["extra_body"], "diffusing": True}}
    diffusing = [*client.chat.completions.create(stream=True, **shown)]
    assert diffusing[-1].choices[0].delta.content == choice.message.content
    assert len(diffusing[-1].choices[0].delta.tool_calls or []) == len(calls)
    whole = {**asked, "tool_choice": "none"}
    assert CALL in (client.chat.completions.create(**whole).choices[0].message.content or "")


class Look(BaseModel):
    """Look at a place."""

    place: Place
    often: Literal["once", "twice"]


class Sleep(BaseModel):
    """Sleep."""

    hours: int = Field(ge=1, le=9)


@pytest.mark.parametrize("named", [None, "Look", "Sleep"])
def test_a_call_is_made_where_one_is_required(client: openai.OpenAI, named: str | None) -> None:
    tools = [openai.pydantic_function_tool(each) for each in (Look, Sleep)]
    choice: Any = {"type": "function", "function": {"name": named}} if named else "required"
    asked: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 90, "tools": tools, "tool_choice": choice}
    for temperature in (0, 1.5):
        asked |= {"temperature": temperature, "seed": 2}
        told = client.chat.completions.parse(**asked).choices[0]
        assert told.finish_reason == "tool_calls"
        assert told.message.content is None
        (call,) = told.message.tool_calls or []
        assert isinstance(call.function.parsed_arguments, {"Look": Look, "Sleep": Sleep}[call.function.name])
        assert named in (None, call.function.name)
        with client.chat.completions.stream(**asked) as stream:
            (streamed,) = stream.get_final_completion().choices[0].message.tool_calls or []
        assert streamed.function == call.function


def test_calls_and_results_go_back_to_the_model(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "tools": [WEATHER], "max_tokens": 70}
    call: Any = {"extra_body": {"end_with": f" I look.\n{CALL}"}}
    message = client.chat.completions.create(messages=QUESTION, **asked, **call).choices[0].message
    assert message.tool_calls
    result: Any = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}
    written: Any = {"role": "assistant", "content": f"{message.content}\n{CALL}"}
    told: Any = {"role": "user", "content": "<tool_response>\nrain\n</tool_response>"}
    answers = [
        client.chat.completions.create(messages=[*QUESTION, *each], **asked)
        for each in ([message, result], [message.model_dump(), result], [written, told])
    ]
    assert len({answer.usage.prompt_tokens for answer in answers if answer.usage}) == 1
    assert len({answer.choices[0].message.content for answer in answers}) == 1


@pytest.mark.parametrize(
    ("asked", "message", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice asks for a tool that tools has not", None),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "has not", None),
        ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice", "tool_choice"),
        ({"tools": [WEATHER], "extra_body": {"regex": "a"}}, "exclude each other", None),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "function", "tools.0"),
        ({"tools": [{"type": "function", "function": {}}]}, "name is missing", "tools.0.function.name"),
    ],
)
def test_tools_that_do_not_fit_are_refused(
    client: openai.OpenAI, asked: dict[str, Any], message: str, param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as raised:
        client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=16, **asked)
    assert param is None or (raised.value.param or "").startswith(param)

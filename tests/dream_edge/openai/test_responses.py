"""OpenAI's newer API through OpenAI's own client: the same texts as chat completions give, in the other words."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel, Field

QUESTION = "What sound does the dog make?"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"type": "function", "name": "weather", "description": "Of a city.", "parameters": CITY, "strict": True}
IN_CHAT: Any = {"type": "function", "function": {name: WEATHER[name] for name in ("name", "description", "parameters")}}


def without_ids(value: Any) -> Any:
    """`value` without what is different each time."""
    if isinstance(value, dict):
        left_out = ("created_at", "diffusion")
        return {name: without_ids(part) for name, part in value.items() if name not in left_out}
    if isinstance(value, list):
        return [without_ids(part) for part in value]
    return re.sub("_[0-9a-f]{24}", "_1", value) if isinstance(value, str) else value


ANSWER = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "tiny",
    "previous_response_id": None,
    "truncation": "disabled",
    "instructions": None,
    "max_output_tokens": 32,
    "temperature": None,
    "top_p": None,
    "top_logprobs": None,
    "text": {"format": {"type": "text", "name": "", "description": "", "strict": True}},
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "A dog barks.", "annotations": [], "logprobs": []}],
        }
    ],
    "usage": {
        "input_tokens": 26,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 30,
    },
}
BEGUN = ANSWER | {"status": "in_progress", "output": [], "usage": None}
PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
PART = {"type": "output_text", "text": "A dog barks.", "annotations": [], "logprobs": []}
EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "sequence_number": 0, "response": BEGUN},
    {"type": "response.in_progress", "sequence_number": 1, "response": BEGUN},
    {
        "type": "response.output_item.added",
        "sequence_number": 2,
        "output_index": 0,
        "item": {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []},
    },
    {"type": "response.content_part.added", "sequence_number": 3, **PLACE, "part": PART | {"text": ""}},
    {"type": "response.output_text.delta", "sequence_number": 4, **PLACE, "delta": "A dog barks.", "logprobs": []},
    {"type": "response.output_text.done", "sequence_number": 5, **PLACE, "text": "A dog barks.", "logprobs": []},
    {"type": "response.content_part.done", "sequence_number": 6, **PLACE, "part": PART},
    {
        "type": "response.output_item.done",
        "sequence_number": 7,
        "output_index": 0,
        "item": {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [PART]},
    },
    {"type": "response.completed", "sequence_number": 8, "response": ANSWER},
]


def test_an_answer_is_worded_as_openai_words_it(url: str) -> None:
    asked = {"model": "tiny", "input": QUESTION, "max_output_tokens": 32}
    answer = httpx.post(f"{url}/v1/responses", json=asked).json()
    assert without_ids(answer) == ANSWER
    assert answer["diffusion"].keys() == {"steps", "passes", "seconds", "tokens_per_second", "seed"}
    lines = httpx.post(f"{url}/v1/responses", json=asked | {"stream": True}).text.split("\n\n")
    assert lines.pop() == ""  # no [DONE]
    events = [dict(part.split(": ", 1) for part in line.split("\n")) for line in lines]
    data = [json.loads(event["data"]) for event in events]
    assert without_ids(data) == EVENTS
    assert [event["event"] for event in events] == [each["type"] for each in data]
    assert len({each["response"]["id"] for each in data if "response" in each}) == 1


@pytest.mark.parametrize(
    ("asked", "messages"),
    [
        ({"input": QUESTION}, [{"role": "user", "content": QUESTION}]),
        (
            {"input": [{"role": "user", "content": QUESTION}], "instructions": "Be brief."},
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}],
        ),
        (
            {
                "input": [
                    {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
                    {"role": "user", "content": [{"type": "input_text", "text": "What sound "}]},
                    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
                    {
                        "type": "message",
                        "id": "msg_1",
                        "status": "completed",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "What?", "annotations": [], "logprobs": []}],
                    },
                    {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "weather", "arguments": "{}"},
                    {"type": "function_call", "call_id": "b", "name": "weather", "arguments": '{"city": "Rome"}'},
                    {"type": "function_call_output", "call_id": "a", "output": "rain"},
                    {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "sun"}]},
                ],
                "tools": [WEATHER],
            },
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What sound "},
                {
                    "role": "assistant",
                    "content": "What?",
                    "tool_calls": [
                        {"id": "a", "function": {"name": "weather", "arguments": "{}"}},
                        {"id": "b", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
                    ],
                },
                {"role": "tool", "tool_call_id": "a", "content": "rain"},
                {"role": "tool", "tool_call_id": "b", "content": "sun"},
            ],
        ),
    ],
)
def test_the_model_reads_what_chat_completions_would_give_it(client: openai.OpenAI, asked: Any, messages: Any) -> None:
    answer = client.responses.create(model="tiny", max_output_tokens=24, **asked)
    tools: Any = {"tools": [IN_CHAT]} if "tools" in asked else {}
    chat: Any = client.chat.completions.create(model="tiny", messages=messages, max_tokens=24, **tools)
    assert answer.output_text == chat.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.input_tokens == chat.usage.prompt_tokens
    assert answer.usage.total_tokens == chat.usage.total_tokens


def test_an_answer_that_is_cut_is_incomplete(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "input": QUESTION, "max_output_tokens": 2}
    answer = client.responses.create(**asked)
    assert (answer.status, answer.output_text) == ("incomplete", "A dog")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert [item.status for item in answer.output if item.type == "message"] == ["incomplete"]
    *_, last = client.responses.create(stream=True, **asked)
    assert last.type == "response.incomplete"
    assert last.response.output_text == "A dog"


@pytest.mark.parametrize("extra", [{"exact": True}, {"algorithm": "left_to_right", "steps": 24}])
def test_a_stream_adds_up_to_the_answer(client: openai.OpenAI, extra: dict[str, Any]) -> None:
    asked: Any = {"model": "tiny", "input": QUESTION, "max_output_tokens": 24, "extra_body": extra | {"seed": 7}}
    whole = client.responses.create(**asked)
    events = [*client.responses.create(stream=True, **asked)]
    assert [event.sequence_number for event in events] == [*range(len(events))]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == whole.output_text
    assert events[-1].type == "response.completed"
    assert without_ids(events[-1].response.to_dict()) == without_ids(whole.to_dict())


class Animal(BaseModel):
    """What it is."""

    kind: Literal["dog", "cat", "cow"]
    legs: int = Field(ge=0, le=8)


class Sleep(BaseModel):
    """Sleep."""

    hours: int = Field(ge=1, le=9)


def test_pydantic_models_are_parsed(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "input": QUESTION, "max_output_tokens": 60, "temperature": 1.5}
    asked["extra_body"] = {"seed": 1}
    told = client.responses.parse(text_format=Animal, **asked)
    assert isinstance(told.output_parsed, Animal)
    assert told.status == "completed"
    with client.responses.stream(text_format=Animal, **asked) as stream:
        assert stream.get_final_response().output_parsed == told.output_parsed
    loose: Any = {"format": {"type": "json_object"}, "verbosity": "low"}
    assert isinstance(json.loads(client.responses.create(text=loose, **asked).output_text), dict)
    asked["extra_body"] = {"choices": ["bark", "meow"]}
    assert client.responses.create(**asked).output_text in ("bark", "meow")


@pytest.mark.parametrize("named", [None, "Animal", "Sleep"])
def test_a_call_is_made_where_one_is_required(client: openai.OpenAI, named: str | None) -> None:
    tools = [openai.pydantic_function_tool(each) for each in (Animal, Sleep)]
    choice: Any = {"type": "function", "name": named} if named else "required"
    asked: Any = {"model": "tiny", "input": QUESTION, "max_output_tokens": 90, "tools": tools, "tool_choice": choice}
    asked["extra_body"] = {"seed": 2, "temperature": 1.5}
    answer: Any = client.responses.parse(**asked)
    (call,) = answer.output
    assert isinstance(call.parsed_arguments, {"Animal": Animal, "Sleep": Sleep}[call.name])
    assert named in (None, call.name)
    assert answer.status == "completed"
    with client.responses.stream(**asked) as stream:
        (streamed,) = (final := stream.get_final_response()).output
    assert without_ids(streamed.to_dict()) == without_ids(call.to_dict())
    assert final.usage == answer.usage


def test_calls_in_the_models_own_words_are_calls_and_go_back(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "tools": [WEATHER], "max_output_tokens": 150, "temperature": 0}
    words: Any = {"extra_body": {"end_with": f" I look.\n{CALL}\n{CALL}"}}
    question: list[Any] = [{"role": "user", "content": QUESTION}]
    answer = client.responses.create(input=question, **asked, **words)
    assert [item.type for item in answer.output] == ["message", "function_call", "function_call"]
    assert answer.output_text.endswith(" I look.")
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("weather", {"city": "Oslo"})] * 2
    assert len({call.call_id for call in calls}) == 2
    events = [*client.responses.create(input=question, stream=True, **asked, **words)]
    assert events[-1].type == "response.completed"
    assert without_ids(events[-1].response.to_dict()["output"]) == without_ids(answer.to_dict()["output"])
    begun = [event.output_index for event in events if event.type == "response.output_item.added"]
    assert begun == [0, 1, 2]
    one = client.responses.create(input=question, parallel_tool_calls=False, **asked, **words)
    assert [item.type for item in one.output] == ["message", "function_call"]
    results: list[Any] = [{"type": "function_call_output", "call_id": c.call_id, "output": "rain"} for c in calls]
    told = client.responses.create(input=[*question, *answer.output, *results], **asked)
    dumped = client.responses.create(input=[*question, *answer.to_dict()["output"], *results], **asked)
    assert told.output_text == dumped.output_text


def test_logprobs_are_asked_for_in_either_way(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "input": QUESTION, "max_output_tokens": 16}
    for more in ({"top_logprobs": 2}, {"include": ["message.output_text.logprobs"]}):
        answer: Any = client.responses.create(**asked, **more)
        logprobs = answer.output[0].content[0].logprobs
        assert "".join(each.token for each in logprobs) == "A dog barks."
        assert {len(each.top_logprobs) for each in logprobs} == {more.get("top_logprobs", 0)}
        *_, last = client.responses.create(stream=True, **asked, **more)
        assert last.response.output[0].content[0].logprobs == logprobs


def test_what_cannot_matter_is_ignored_and_named(client: openai.OpenAI) -> None:
    quiet: Any = {"store": True, "metadata": {"a": "b"}, "reasoning": {"effort": "low"}, "user": "me"}
    nothing: Any = {"background": False, "truncation": "disabled", "include": [], "tools": [], "conversation": None}
    asked: Any = {"model": "tiny", "input": QUESTION, "max_output_tokens": 16}
    answer: Any = client.responses.create(**asked, **quiet, **nothing)
    assert answer.output_text == client.responses.create(**asked).output_text
    assert {*answer.diffusion["ignored"]} == {*quiet}


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        (
            {"previous_response_id": "resp_1"},
            "nothing is kept here; give the whole conversation",
            "previous_response_id",
        ),
        ({"conversation": "conv_1"}, "nothing is kept here", "conversation"),
        ({"background": True}, "background: an answer is given at once", "background"),
        ({"truncation": "auto"}, "truncation: nothing is left out", "truncation"),
        ({"prompt": {"id": "p"}}, "no field 'prompt'", "prompt"),
        ({"include": ["file_search_call.results"]}, "encrypted_content", "include.0"),
        ({"input": []}, "at least 1", "input"),
        ({"input": None}, "input is missing", "input"),
        ({"input": [{"type": "item_reference", "id": "a"}]}, "its type has to be one of message, function", "input.0"),
        ({"input": [{"role": "user"}]}, "input.0.content is missing", "input.0.content"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input_text", "input.0.content.0.type"),
        ({"input": [{"type": "function_call", "arguments": "{}"}]}, "name is missing", "input.0.name"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "3"}]}, "arguments of f are no JSON", "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "at least 1", "input"),
        ({"max_output_tokens": 0}, "greater than or equal to 1", "max_output_tokens"),
        ({"max_output_tokens": 1 << 19}, "context", None),
        ({"temperature": -1}, "greater than or equal", "temperature"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "schema goes with", "text.format"),
        ({"text": {"format": {"type": "grammar"}}}, "json_schema", "text.format.type"),
        ({"tools": [{"type": "web_search"}]}, "function", "tools.0.type"),
        ({"tool_choice": "required"}, "tool_choice asks for a tool that tools has not", None),
        ({"tool_choice": {"type": "allowed_tools"}}, "function", "tool_choice.type"),
        ({"tools": [WEATHER], "extra_body": {"regex": "a"}}, "exclude each other", None),
        ({"extra_body": {"n": 2}}, "no field 'n'", "n"),
        ({"extra_body": {"diffusing": True}}, "no field 'diffusing'", "diffusing"),
        ({"extra_body": {"threshold": 0.9, "reveal": "factor:1"}}, "name one", "reveal"),
        ({"stream_options": {"include_obfuscation": False}}, "give stream too", None),
    ],
)
def test_what_does_not_fit_is_said(
    client: openai.OpenAI, change: dict[str, Any], message: str, param: str | None
) -> None:
    asked: Any = {"model": "tiny", "input": QUESTION} | change
    with pytest.raises(openai.BadRequestError, match=message) as raised:
        client.responses.create(**asked)
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"


def test_another_model_is_not_here(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Leave `model` out"):
        client.responses.create(model="gpt-4o", input=QUESTION)

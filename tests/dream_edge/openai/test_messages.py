"""Anthropic's API: the same texts as chat completions give, in the other words. Its client is in test_other_clients."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import httpx
import pytest

import dream_edge
from dream_edge.openai.answer import Call, Said
from dream_edge.openai.errors import RequestRefused
from dream_edge.openai.messages_api import Messages, MessagesRequest, prepare_message
from dream_edge.openai.response_formats import FinishedText
from dream_edge_runtime.chat_format import ChatFormat
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.generation.results import Generation
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import chat_ids
from dream_edge_runtime.text.tokenizer import Tokenizer
from support.serving import ready

QUESTION: Any = [{"role": "user", "content": "What sound does the dog make?"}]
ASKED: Any = {"model": "tiny", "max_tokens": 24, "messages": QUESTION}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"name": "weather", "description": "Of a city.", "input_schema": CITY}
IN_CHAT: Any = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": CITY}}
TIMED: Any = {"cache_control": {"type": "ephemeral"}}


def ask(url: str, **changes: Any) -> Any:
    answer = httpx.post(f"{url}/v1/messages", json=ASKED | changes)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(url: str, **changes: Any) -> list[Any]:
    """The data of the events of a stream, each of which is named by its type."""
    lines = httpx.post(f"{url}/v1/messages", json=ASKED | changes | {"stream": True}).text.split("\n\n")
    assert lines.pop() == ""  # no [DONE]
    events = [dict(part.split(": ", 1) for part in line.split("\n")) for line in lines]
    data = [json.loads(event["data"]) for event in events]
    assert [event["event"] for event in events] == [each["type"] for each in data]
    return data


def without_ids(value: Any) -> Any:
    """`value` without what is different each time."""
    if isinstance(value, dict):
        return {name: without_ids(part) for name, part in value.items() if name != "diffusion"}
    if isinstance(value, list):
        return [without_ids(part) for part in value]
    return re.sub("_[0-9a-f]{24}", "_1", value) if isinstance(value, str) else value


HEAD = {"id": "msg_1", "type": "message", "role": "assistant", "model": "tiny"}
USAGE = {"input_tokens": 26, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 4}
ENDED = {"stop_reason": "end_turn", "stop_sequence": None}
UNENDED = {"stop_reason": None, "stop_sequence": None}


def test_an_answer_is_worded_as_anthropic_words_it(url: str) -> None:
    content = [{"type": "text", "text": "A dog barks."}]
    answer = ask(url, metadata={"user_id": "me"})
    assert without_ids(answer) == {**HEAD, "content": content, **ENDED, "usage": USAGE}
    assert answer["diffusion"]["ignored"] == ["metadata"]
    assert without_ids(stream(url)) == [
        {
            "type": "message_start",
            "message": {**HEAD, "content": [], **UNENDED, "usage": {"input_tokens": 26, "output_tokens": 0}},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "A dog barks."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ENDED, "usage": USAGE},
        {"type": "message_stop"},
    ]


@pytest.mark.parametrize(
    ("change", "text", "ending"),
    [
        ({"stop_sequences": ["ar"]}, "A dog b", {"stop_reason": "stop_sequence", "stop_sequence": "ar"}),
        ({"stop_sequences": ["cow", "dog", "barks"]}, "A ", {"stop_reason": "stop_sequence", "stop_sequence": "dog"}),
        ({"stop_sequences": ["cow"]}, "A dog barks.", ENDED),
        ({"stop_sequences": []}, "A dog barks.", ENDED),
        ({"max_tokens": 2}, "A dog", {"stop_reason": "max_tokens", "stop_sequence": None}),
    ],
)
def test_an_answer_says_why_it_ends(url: str, change: dict[str, Any], text: str, ending: dict[str, Any]) -> None:
    answer = ask(url, **change)
    assert answer["content"] == [{"type": "text", "text": text}]
    assert {name: answer[name] for name in ending} == ending
    events = stream(url, **change)
    assert "".join(each["delta"]["text"] for each in events if each["type"] == "content_block_delta") == text
    assert events[-2]["delta"] == ending


@pytest.mark.parametrize(
    ("asked", "messages"),
    [
        ({"system": "Be brief."}, [{"role": "system", "content": "Be brief."}, *QUESTION]),
        (
            {
                "system": [{"type": "text", "text": "Be ", **TIMED}, {"type": "text", "text": "brief."}],
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": QUESTION[0]["content"], **TIMED}]},
                    {"role": "assistant", "content": "A dog"},
                ],
            },
            [{"role": "system", "content": "Be brief."}, *QUESTION, {"role": "assistant", "content": "A dog"}],
        ),
        (
            {
                "tools": [{**WEATHER, "type": "custom", **TIMED}],
                "messages": [
                    *QUESTION,
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "Hm.", "signature": ""},
                            {"type": "text", "text": "I look."},
                            {"type": "tool_use", "id": "a", "name": "weather", "input": {}},
                            {"type": "tool_use", "id": "b", "name": "weather", "input": {"city": "Rome"}},
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "tool_use_id": "a", "content": "nowhere", "is_error": True},
                            {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "sun"}]},
                            {"type": "text", "text": "So?"},
                        ],
                    },
                ],
            },
            [
                *QUESTION,
                {
                    "role": "assistant",
                    "content": "I look.",
                    "tool_calls": [
                        {"id": "a", "function": {"name": "weather", "arguments": "{}"}},
                        {"id": "b", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
                    ],
                },
                {"role": "tool", "tool_call_id": "a", "content": "nowhere"},
                {"role": "tool", "tool_call_id": "b", "content": "sun"},
                {"role": "user", "content": "So?"},
            ],
        ),
    ],
)
def test_the_model_reads_what_chat_completions_would_give_it(url: str, asked: Any, messages: Any) -> None:
    tools = {"tools": [IN_CHAT]} if "tools" in asked else {}
    body = {"model": "tiny", "messages": messages, "max_tokens": 24, **tools}
    chat = httpx.post(f"{url}/v1/chat/completions", json=body).json()
    answer = ask(url, **asked)
    assert answer["content"] == [{"type": "text", "text": chat["choices"][0]["message"]["content"]}]
    assert answer["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    counted = httpx.post(f"{url}/v1/messages/count_tokens", json={"messages": QUESTION} | asked).json()
    assert counted == {"input_tokens": chat["usage"]["prompt_tokens"]}
    assert stream(url, **asked)[0]["message"]["usage"] == {**counted, "output_tokens": 0}


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_call_is_made_where_one_is_required(url: str, choice: dict[str, Any]) -> None:
    asked: Any = {"tools": [WEATHER], "tool_choice": choice, "max_tokens": 60, "temperature": 1, "seed": 1}
    answer = ask(url, **asked)
    assert answer["stop_reason"] == "tool_use"
    (block,) = answer["content"]
    assert (block["type"], block["name"], block["id"][:6]) == ("tool_use", "weather", "toolu_")
    assert isinstance(block["input"]["city"], str)
    events = stream(url, **asked)
    begun = [each["content_block"] for each in events if each["type"] == "content_block_start"]
    assert without_ids(begun) == [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}]
    pieces = [each["delta"] for each in events if each["type"] == "content_block_delta"]
    assert json.loads("".join(each["partial_json"] for each in pieces)) == block["input"]
    assert {each["type"] for each in pieces} == {"input_json_delta"}


def test_calls_in_the_models_own_words_are_calls(url: str) -> None:
    asked: Any = {"tools": [WEATHER], "max_tokens": 150, "end_with": f" I look.\n{CALL}\n{CALL}", "temperature": 0}
    answer = ask(url, **asked)
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use", "tool_use"]
    assert answer["content"][0]["text"].endswith(" I look.")
    assert [block["input"] for block in answer["content"][1:]] == [{"city": "Oslo"}] * 2
    assert len({block["id"] for block in answer["content"][1:]}) == 2
    events = stream(url, **asked)
    assert [each["index"] for each in events if each["type"] == "content_block_start"] == [0, 1, 2]
    assert [each["index"] for each in events if each["type"] == "content_block_stop"] == [0, 1, 2]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    one = ask(url, **asked, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert [block["type"] for block in one["content"]] == ["text", "tool_use"]
    none = ask(url, **asked, tool_choice={"type": "none"})
    assert CALL in none["content"][0]["text"]


def test_an_answer_matches_a_schema(url: str) -> None:
    schema = {"type": "object", "properties": {"legs": {"type": "integer"}}, "required": ["legs"]}
    form = {"effort": "low", "format": {"type": "json_schema", "schema": schema | {"additionalProperties": False}}}
    answer = ask(url, output_config=form, temperature=1)
    assert json.loads(answer["content"][0]["text"]).keys() == {"legs"}
    assert answer["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role: Input should be 'user'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0: its type has to be"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text is missing"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use", "name": "f", "input": {}}]}]}, "assistant's"),
        ({"system": [{"type": "image"}]}, "system.0.type: Input should be 'text'"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": 1 << 19}, "the model's context is 2048"),
        ({"stop_sequences": [""]}, "stop_sequences.0: String should have at least 1"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type: Input should be 'custom'"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema is missing"),
        ({"tool_choice": {"type": "any"}}, "tool_choice asks for a tool that tools has not"),
        ({"tool_choice": {"type": "tool"}, "tools": [WEATHER]}, "tool_choice: name goes with the type tool"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking needs a model that can think"),
        ({"thinking": True}, "thinking: Input should be a valid dictionary"),
        ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format.type"),
        ({"container": "c"}, "no field 'container'"),
        ({"n": 2}, "no field 'n'"),
        ({"temperature": -1}, "temperature: Input should be greater than or equal"),
    ],
)
def test_what_does_not_fit_is_said(url: str, change: dict[str, Any], message: str) -> None:
    refused = httpx.post(f"{url}/v1/messages", json=ASKED | change)
    assert refused.status_code == 400
    assert refused.json().keys() == {"type", "error"}
    assert refused.json()["type"] == "error"
    assert refused.json()["error"].keys() == {"type", "message"}
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert message in refused.json()["error"]["message"]


def test_every_refusal_has_anthropics_form(url: str) -> None:
    path = f"{url}/v1/messages"
    as_json = {"Content-Type": "application/json"}
    for refused, status, kind in (
        (httpx.post(path, json=ASKED | {"model": "claude"}), 404, "not_found_error"),
        (httpx.post(f"{path}/batches", json=ASKED), 404, "not_found_error"),
        (httpx.get(path), 405, "invalid_request_error"),
        (httpx.post(path, content="{"), 415, "invalid_request_error"),
        (httpx.post(path, content="{", headers=as_json), 400, "invalid_request_error"),
        (httpx.post(path, headers=as_json), 400, "invalid_request_error"),
        (httpx.post(path, json=ASKED | {"metadata": "a" * (1 << 22)}), 413, "request_too_large"),
        (httpx.post(path, json=ASKED, headers={"Origin": "https://a.example"}), 403, "permission_error"),
    ):
        told = refused.json()
        assert (refused.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
    threaded = httpx.post(path, json=ASKED | {"thread": {"type": "create"}}).json()["error"]
    assert threaded["details"]["error_code"] == "thread_unsupported_request"
    assert "nothing is kept here" in threaded["message"]
    counts = httpx.get(f"{url}/metrics").text
    assert 'route="/v1/messages",status="404"' in counts


def test_the_key_may_come_as_anthropics_clients_send_it() -> None:
    with ready(api_key="s3cret") as url:
        for headers, status in (
            ({"x-api-key": "s3cret"}, 200),
            ({"x-api-key": "s3cret", "Authorization": "Bearer wrong"}, 200),
            ({"Authorization": "Bearer s3cret"}, 200),
            ({"x-api-key": "wrong"}, 401),
            ({"x-api-key": ""}, 401),
            ({}, 401),
        ):
            while (answer := httpx.post(f"{url}/v1/messages", json=ASKED, headers=headers)).status_code == 503:
                time.sleep(0.05)
            assert answer.status_code == status, headers
        assert answer.json()["error"]["type"] == "authentication_error"
        assert "x-api-key: KEY" in answer.json()["error"]["message"]


def test_models_that_think_are_told_whether_to() -> None:
    tiny = dream_edge.load("tiny", threads=1)
    thinker = DreamModel(tiny.network, Tokenizer(tiny.tokenizer._tokenizer, ChatFormat(thinking="on")), tiny.defaults)
    for thinking, meant in (("enabled", True), ("disabled", False), ("adaptive", None), (None, None)):
        config = thinking and {"type": thinking, "budget_tokens": 1024}
        request = MessagesRequest.model_validate({"messages": QUESTION, "thinking": config})
        prompt = prepare_message(thinker, request, "tiny").texts[0].denoising.prompt_tokens
        assert prompt == len(chat_ids(thinker.tokenizer, QUESTION, thinking=meant))
        if thinking == "enabled":
            with pytest.raises(InvalidOption, match="needs a model that can think"):
                prepare_message(tiny, request, "tiny")
        else:
            assert prepare_message(tiny, request, "tiny").texts[0].denoising.prompt_tokens == 26


def test_thoughts_are_a_block_before_the_text() -> None:
    made = Generation("", (), 5, new_tokens=3, steps=1, passes=1, seconds=0.0, seed=0, finish_reason="stop")
    said = Said("So.", "Hmm.", (Call("look", '{"at": 1}'),))
    finished = FinishedText(said, "tool_calls", made)
    form = Messages("tiny")
    events = [*form.chunk(0, Said(thoughts="Hm")), *form.chunk(0, Said(thoughts="m."))]
    events += form.closing(0, Said("So.", calls=said.calls), finished)
    deltas = [each["delta"] for each in events if each["type"] == "content_block_delta"]
    assert deltas == [
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "thinking_delta", "thinking": "m."},
        {"type": "text_delta", "text": "So."},
        {"type": "input_json_delta", "partial_json": '{"at": 1}'},
    ]
    assert without_ids(Messages("tiny").whole([finished])["content"]) == [
        {"type": "thinking", "thinking": "Hmm.", "signature": ""},
        {"type": "text", "text": "So."},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": 1}},
    ]
    assert Messages("tiny").whole([FinishedText(Said(), "stop", made)])["content"] == [{"type": "text", "text": ""}]


def test_a_stream_that_fails_says_so() -> None:
    told = Messages("tiny").failure(RequestRefused("it broke.", status=500))
    assert told == {"type": "error", "error": {"type": "api_error", "message": "it broke."}}

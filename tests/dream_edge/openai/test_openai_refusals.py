"""What OpenAI's own client is told of a request that does not fit, and of what has no effect."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

QUESTION: Any = [{"role": "user", "content": "What sound does the dog make?"}]
PICTURE: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/cat.png"}}]}]


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        ({"messages": []}, "at least 1", "messages"),
        ({"messages": [{"role": "system", "content": "Hello"}]}, "last message", None),
        ({"temperature": -1}, "greater than or equal", "temperature"),
        ({"max_tokens": 0}, "greater than or equal", "max_tokens"),
        ({"max_tokens": 1 << 19}, "context", None),
        ({"n": 99}, "less than or equal to 8", "n"),
        ({"presence_penalty": 2.5}, "less than or equal to 2", "presence_penalty"),
        ({"logit_bias": {"3": 101}}, "less than or equal to 100", "logit_bias.3"),
        ({"logit_bias": {"a": 1}}, "pattern", "logit_bias.a.[key]"),
        ({"logit_bias": {"5000": 1}}, "5000", None),
        ({"functions": [{"name": "f"}]}, "functions: give tools. Leave it out", "functions"),
        ({"function_call": {"name": "f"}}, "function_call: give tool_choice. Leave it out", "function_call"),
        ({"seed": -2}, "greater than or equal to 0", "seed"),
        ({"top_logprobs": 2}, "needs logprobs", None),
        ({"logprobs": True, "top_logprobs": 21}, "less than or equal to 20", "top_logprobs"),
        ({"logprobs": True, "extra_body": {"end_with": "."}}, "end_with", None),
        ({"messages": PICTURE}, "should be 'text'", "messages.0.content.0.type"),
        ({"messages": [{"role": "function", "content": "4"}]}, "or .tool.", "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "content is missing", "messages.0"),
        ({"extra_body": {"numctx": 4096}}, "no field 'numctx': leave it out", "numctx"),
        ({"extra_body": {"min_p": 0.1}}, "no field 'min_p': leave it out", "min_p"),
        ({"extra_body": {"stop": [5]}}, "valid string", "stop.0"),
        ({"extra_body": {"threshold": 0.9, "reveal": "factor:1"}}, "name one", "reveal"),
        ({"extra_body": {"exact": True, "threshold": 0.9}}, "exact", None),
        ({"extra_body": {"algorithm": "best"}}, "origin", "algorithm"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "contradict", None),
        ({"stream_options": {"include_usage": True}}, "give stream too", None),
        ({"extra_body": {"diffusing": True}}, "give stream too", None),
        ({"stream": True, "extra_body": {"stream_options": {"include_cells": True}}}, "with diffusing", None),
        ({"stream": True, "extra_body": {"diffusing": True, "stream_options": {"whole_blocks": True}}}, "add to", None),
    ],
)
def test_what_does_not_fit_is_said(
    client: openai.OpenAI, change: dict[str, Any], message: str, param: str | None
) -> None:
    asked: Any = {"model": "tiny", "messages": QUESTION} | change
    with pytest.raises(openai.BadRequestError, match=message) as raised:
        client.chat.completions.create(**asked)
    if param is not None:
        assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"


def test_another_model_is_not_here(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Leave `model` out"):
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        ({"logprobs": 2}, "not drawn from left to right", "logprobs"),
        ({"best_of": 2}, "ask for n", "best_of"),
        ({"prompt": ["one"] * 17}, "more than 16", None),
        ({"prompt": [1, "two"]}, "no mixture", None),
        ({"prompt": [5000]}, "5000", None),
        ({"prompt": []}, "at least 1", "prompt"),
        ({"prompt": ""}, "empty", None),
        ({"prompt": "word " * 5000}, "context is 2048. Give less, or lower max_tokens", None),
        ({"suffix": " end.", "extra_body": {"end_with": " end."}}, "contradict", None),
    ],
)
def test_what_does_not_fit_a_completion_is_said(
    client: openai.OpenAI, change: dict[str, Any], message: str, param: str | None
) -> None:
    asked: Any = {"model": "tiny", "prompt": "The old man", "max_tokens": 4} | change
    with pytest.raises(openai.BadRequestError, match=message) as raised:
        client.completions.create(**asked)
    assert raised.value.param == param


def test_what_cannot_matter_is_ignored_and_named(client: openai.OpenAI) -> None:
    quiet: Any = {
        "user": "me",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "safety_identifier": "x",
        "reasoning_effort": "low",
        "extra_body": {"keep_alive": "5m", "id_slot": 0, "cache_prompt": True, "unknown": None, "diffusing": None},
    }
    asked: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "max_tokens": 8}
    nulls: Any = {"stop": None, "tools": None, "temperature": None}
    plain = client.chat.completions.create(**asked)
    answer = client.chat.completions.create(**asked, **nulls, **quiet)
    assert answer.choices == plain.choices
    told: Any = answer.model_extra
    names = {*quiet, "keep_alive", "id_slot", "cache_prompt"} - {"extra_body"}
    assert {*told["diffusion"]["ignored"]} == names
    assert "ignored" not in (plain.model_extra or {})["diffusion"]
    *_, last = client.chat.completions.create(**asked, stream=True, **quiet)
    assert {*(last.model_extra or {})["diffusion"]["ignored"]} == names


NOTHING: list[dict[str, Any]] = [
    {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
    {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
    {"response_format": {"type": "text"}},
    {"frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}},
    {"logprobs": False, "top_logprobs": 0},
    {"seed": -1},
    {"temperature": 1e-7},
    {"extra_body": {"functions": [], "function_call": "none"}},
    {
        "extra_body": {
            "top_k": -1,
            "min_p": 0.0,
            "repeat_penalty": 1,
            "typical_p": 1.0,
            "mirostat": 0,
            "modalities": ["text"],
        }
    },
    {"messages": [{**QUESTION[0], "id": 7, "opts": {"visible": True}, "tool_calls": [], "reasoning_content": "Hm."}]},
]


@pytest.mark.parametrize("extra", NOTHING, ids=lambda extra: next(iter(extra)))
def test_what_asks_for_nothing_is_accepted(client: openai.OpenAI, extra: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "max_tokens": 8, "temperature": 0}
    plain = client.chat.completions.create(**asked)
    answer = client.chat.completions.create(**asked | extra)
    assert answer.choices == plain.choices


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        ({"hole": 0}, "pieces.0.hole: Input should be greater than or equal to 1."),
        ({"hole": "two"}, "pieces.0.hole: Input should be a valid integer."),
        ({"gap": 2}, "pieces.0"),
    ],
)
def test_a_piece_that_does_not_fit_is_named_as_it_was_meant(url: str, piece: dict[str, Any], message: str) -> None:
    refused = httpx.post(f"{url}/v1/fill", json={"pieces": [piece]})
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]

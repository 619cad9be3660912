"""Any body for one of the newer APIs is answered, or refused in that API's own form; their answers come in parts."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dream_edge.openai.answer import Call, Said
from dream_edge.openai.errors import RequestRefused
from dream_edge.openai.response_formats import FinishedText
from dream_edge.openai.responses_api import Responses
from dream_edge_runtime.generation.results import Generation

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/responses": {
        "model": "tiny",
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "A dog"}]},
            {"type": "reasoning", "summary": []},
            CALL,
            {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
        ],
        "max_output_tokens": 8,
        "temperature": 1,
        "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}],
        "tool_choice": "auto",
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 1,
        "reasoning": {"effort": "low"},
        "store": False,
        "stream": False,
        "seed": 1,
    },
    "/v1/messages": {
        "model": "tiny",
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": "A dog"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}]},
        ],
        "max_tokens": 8,
        "temperature": 1,
        "tools": [{"name": "f", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "disabled"},
        "output_config": {"effort": "low"},
        "stop_sequences": ["a"],
        "metadata": {"user_id": "me"},
        "stream": False,
        "seed": 1,
    },
}
WORDS = [
    "",
    "text",
    "tool",
    "any",
    "auto",
    "required",
    "none",
    "message",
    "json_schema",
    "json_object",
    "f",
    "\ud800",
    "é",
]
LEAVES = st.none() | st.booleans() | st.integers(-2, 20) | st.floats(-1, 2, width=16) | st.sampled_from(WORDS)
NAMES = st.sampled_from(
    ["type", "name", "role", "content", "schema", "format", "regex", "threshold", "n", "thread", "a"]
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3))


@st.composite
def changed(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """`body`, changed in one to three places."""
    made: Any = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = made
        while True:
            keys: list[Any] = [*place] if isinstance(place, dict) else [*range(len(place))]
            key = draw(st.sampled_from(keys) if keys else NAMES)
            inside = place[key] if keys else None
            if isinstance(inside, dict | list) and inside and draw(st.booleans()):
                place = inside
                continue
            if isinstance(place, dict) and draw(st.integers(0, 3)) == 0:
                place[draw(NAMES)] = draw(VALUES)
            elif not isinstance(place, list) or keys:
                place[key] = draw(VALUES)
            break
    assert isinstance(made, dict)
    return made


@pytest.mark.parametrize("path", BODIES)
def test_a_body_is_answered_or_refused_in_the_apis_own_form(url: str, path: str) -> None:
    found = set[int]()

    @given(body=changed(BODIES[path]))
    @settings(max_examples=150, deadline=None, suppress_health_check=[*HealthCheck], database=None)
    def answered(body: dict[str, Any]) -> None:
        answer = httpx.post(
            url + path, content=json.dumps(body), headers={"Content-Type": "application/json"}, timeout=60
        )
        found.add(answer.status_code)
        assert answer.status_code in (200, 400, 404), answer.text
        if answer.status_code == 200:
            streams = body.get("stream") is True
            assert answer.headers["content-type"].startswith("text/event-stream" if streams else "application/json")
        elif path == "/v1/messages":
            assert answer.json()["type"] == "error"
            assert {"type", "message"} <= answer.json()["error"].keys() <= {"type", "message", "details"}
        else:
            assert answer.json()["error"].keys() == {"message", "type", "param", "code"}

    answered()
    assert {200, 400} <= found


def finished(said: Said, reason: str = "stop") -> FinishedText:
    made = Generation("", (), 5, new_tokens=3, steps=1, passes=1, seconds=0.0, seed=0, finish_reason="stop")
    return FinishedText(said, reason, made)


def test_each_part_is_an_item_and_the_next_begins_where_it_ends() -> None:
    form = Responses("tiny", {}, len)
    pieces = [Said(thoughts="Hm"), Said(thoughts="m."), Said("I lo"), Said("ok.", calls=(Call("look", "{}"),))]
    events = [event for piece in pieces for event in form.chunk(0, piece)]
    whole = Said("I look. So.", "Hmm.", (Call("look", "{}"),))
    events += form.closing(0, Said(" So."), finished(whole))
    told = [(each["type"].removeprefix("response."), each.get("output_index")) for each in events]
    text = ["output_item.added", "content_part.added", "{}.delta", "{}.delta", "{}.done", "content_part.done"]
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done"]
    expected = [
        *((kind.format("reasoning_text"), 0) for kind in [*text, "output_item.done"]),
        *((kind.format("output_text"), 1) for kind in [*text, "output_item.done"]),
        *((kind, 2) for kind in [*call, "output_item.done"]),
        *((kind.format("output_text"), 3) for kind in [*text[:3], *text[4:], "output_item.done"]),
        ("completed", None),
    ]
    assert told == expected
    assert [each["sequence_number"] for each in events] == [*range(len(events))]
    ids = {each["output_index"]: each["item"]["id"] for each in events if "item" in each}
    assert all(each["item_id"] == ids[each["output_index"]] for each in events if "item_id" in each)
    response = events[-1]["response"]
    assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call", "message"]
    assert response["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hmm."}]
    assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": 4}
    done = {each["output_index"]: each["item"] for each in events if each["type"] == "response.output_item.done"}
    assert [*done.values()] == response["output"]


def test_an_empty_answer_is_an_empty_message() -> None:
    (item,) = Responses("tiny", {}, len).whole([finished(Said())])["output"]
    assert item["content"] == [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]


def test_a_stream_that_fails_says_so() -> None:
    form = Responses("tiny", {}, len)
    events = [*form.opening(0, 3), *form.chunk(0, Said("A d")), form.failure(RequestRefused("it broke.", status=500))]
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["status"] == "failed"
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "it broke."}
    assert [each["sequence_number"] for each in events] == [*itertools.islice(itertools.count(), len(events))]

"""Requests as other people's clients send them, written down from their sources; each is answered."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

QUESTION: Any = [{"role": "user", "content": "What sound does the dog make?"}]
CODE = {"model": "tiny", "prompt": "Yesterday the boys", "suffix": " the garden.", "max_tokens": 4, "stream": True}
SAMPLING: Any = {"temperature": 0.01, "top_p": 0.9, "frequency_penalty": 0, "presence_penalty": 1.5}
READ: Any = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Use this tool to view the contents of a file.",
        "parameters": {
            "type": "object",
            "required": ["filepath"],
            "properties": {"filepath": {"type": "string", "description": "The path of the file."}},
        },
        "strict": None,
    },
}
CHAT: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 16, "stream": True}
VIM: Any = {
    "input_prefix": "The old man\n",
    "input_suffix": ".\n",
    "input_extra": [{"text": "a\n", "time": [1, 2], "filename": "a.txt"}],
    "prompt": "Yesterday ",
    "n_predict": 8,
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
}
RECORDED: dict[str, tuple[str, dict[str, Any]]] = {
    "Continue, chat": (
        "/v1/chat/completions",
        {**CHAT, "temperature": 0.5, "stop": ["<|end|>"], "stream_options": {"include_usage": True}},
    ),
    "Continue, chat with tools and a prediction": (
        "/v1/chat/completions",
        {**CHAT, "tools": [READ], "prediction": {"type": "content", "content": "A dog barks."}},
    ),
    "Continue, filling in": ("/v1/fim/completions", {**CODE, **SAMPLING, "stop": ["\n\n", "/src/"]}),
    "Continue, Inception, filling in": (
        "/v1/completions",
        {**CODE, **SAMPLING, "stop": ["<|endoftext|>", "\n\n", "\n \n"]},
    ),
    "Continue, Inception, chat": (
        "/v1/chat/completions",
        {**CHAT, **SAMPLING, "stop": ["<|endoftext|>"], "nextEdit": False},
    ),
    "Open WebUI, chat": (
        "/v1/chat/completions",
        {**CHAT, "temperature": 0.8, "top_p": 0.9, "frequency_penalty": 1.1, "seed": 0, "stop": ["###"]},
    ),
    "Open WebUI, chat with more parameters": (
        "/v1/chat/completions",
        {
            **CHAT,
            "stream_options": {"include_usage": True},
            "reasoning_effort": "medium",
            "logit_bias": {"5": -100, "7": 2},
            "top_k": 40,
            "min_p": 0.0,
            "repeat_penalty": 1,
        },
    ),
    "Open WebUI, title": (
        "/v1/chat/completions",
        {"model": "tiny", "messages": QUESTION, "stream": False, "max_completion_tokens": 100},
    ),
    "llama.vim, warming up": (
        "/infill",
        {**VIM, "n_predict": 0, "temperature": 0.0, "samplers": [], "t_max_predict_ms": 1, "response_fields": [""]},
    ),
    "llama.vim": (
        "/infill",
        {**VIM, "n_indent": 0, "top_k": 40, "top_p": 0.99, "samplers": ["top_k", "top_p", "infill"], "id_slot": 0},
    ),
    "CodeCompanion, chat": (
        "/v1/chat/completions",
        {**CHAT, "messages": [{**QUESTION[0], "id": 1, "opts": {"visible": True}}]},
    ),
    "Mercury's, diffusing": ("/v1/chat/completions", {**CHAT, "diffusing": True, "reasoning_effort": "instant"}),
}


@pytest.mark.parametrize(("path", "body"), RECORDED.values(), ids=RECORDED)
def test_what_clients_send_is_answered(url: str, path: str, body: dict[str, Any]) -> None:
    answer = httpx.post(url + path, json=body)
    assert answer.status_code == 200, answer.text
    lines = answer.text.splitlines() if body.get("stream") else [answer.text]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line and not line.endswith("[DONE]")]
    assert not any("error" in event for event in events)
    if path == "/infill":
        assert events[0]["stop"] is True
        assert bool(events[0]["content"]) == bool(body["n_predict"])
    else:
        choices = [choice for event in events for choice in event["choices"]]
        assert choices[-1]["finish_reason"] in ("stop", "length")

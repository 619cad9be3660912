"""Whether a model thinks before it answers, as clients of other servers ask for it and as ours do."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

import dream_edge
from dream_edge.cli.options import generation_parameters, read_settings
from dream_edge.openai.requests import ChatRequest
from dream_edge.openai.texts import prepare_chat
from dream_edge_runtime.chat_format import ChatFormat
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import chat_ids
from dream_edge_runtime.text.tokenizer import Tokenizer

MESSAGES = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(scope="module")
def thinker() -> DreamModel:
    """The tiny Dream, as if it could think."""
    tiny = dream_edge.load("tiny", threads=1)
    tokenizer = Tokenizer(tiny.tokenizer._tokenizer, ChatFormat(system=None, thinking="on"))
    return DreamModel(tiny.network, tokenizer, tiny.defaults)


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": MESSAGES, "max_tokens": 4, **fields})


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({}, None),
        ({"thinking": False}, False),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
        ({"chat_template_kwargs": {"enable_thinking": True}, "thinking": True}, True),
        ({"chat_template_kwargs": {}}, None),
        ({"chat_template_kwargs": {"enable_thinking": None}, "thinking": True}, True),
    ],
)
def test_clients_say_it_in_either_way(thinker: DreamModel, fields: dict[str, Any], thinking: bool | None) -> None:
    asked = request(**fields)
    assert asked.options().get("thinking") is thinking
    text = prepare_chat(thinker, asked, "tiny").texts[0].denoising.result()
    assert text.prompt_tokens == len(chat_ids(thinker.tokenizer, MESSAGES, thinking=thinking))


@pytest.mark.parametrize(
    "fields",
    [
        {"chat_template_kwargs": {"enable_thinking": False}, "thinking": True},
        {"chat_template_kwargs": {"enable_thinking": "no"}},
        {"chat_template_kwargs": {"add_vision_id": True}},
        {"thinking": "yes"},
    ],
)
def test_what_contradicts_itself_or_means_nothing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(**fields)


def test_the_command_line_has_it_on_off_and_neither() -> None:
    assert read_settings({"thinking": False, "stop_at_end": False, "seed": None}) == {"thinking": False}
    assert read_settings({"thinking": True}) == {"thinking": True}
    parameter = next(each for each in generation_parameters() if each.name == "thinking")
    assert parameter.default is None
    assert parameter.annotation.__metadata__[0].default == "--thinking/--no-thinking"


def test_models_that_cannot_think_say_so(thinker: DreamModel) -> None:
    tiny = dream_edge.load("tiny", threads=1)
    with pytest.raises(InvalidOption, match="thinking needs a model that can think: leave it out"):
        prepare_chat(tiny, request(thinking=False), "tiny")
    for text, raw in (("Hello!", True), ([3, 4], False)):
        with pytest.raises(InvalidOption, match="this prompt is taken as it is"):
            thinker.generate(text, raw=raw, thinking=False, max_new_tokens=4)
    with pytest.raises(InvalidOption, match="they are no conversation"):
        thinker.infill("a", "b", 2, thinking=True)


def test_thoughts_are_a_field_of_their_own(thinker: DreamModel) -> None:
    """The tiny model has none, so they are given."""
    text = "<think>\nIt barks.\n</think>\n\nA dog barks."
    room = len(thinker.tokenizer.encode(text))
    for model, message in (
        (thinker, {"role": "assistant", "content": "A dog barks.", "reasoning_content": "It barks."}),
        (dream_edge.load("tiny", threads=1), {"role": "assistant", "content": text}),
    ):
        job = prepare_chat(model, request(max_tokens=room, end_with=text, stream=True), "tiny")
        (denoising,) = [each.denoising for each in job.texts]
        steps, listener, follower = [*denoising], job.listen(), job.follow()
        pieces = [listener.advance(follower.advance(step)) for step in steps]
        pieces.append(listener.finish(follower.finish(denoising.result())))
        finished = job.finish(0, denoising.result())
        assert job.format.whole([finished])["choices"][0]["message"] == message
        chunks = [chunk for piece in pieces if piece for chunk in job.format.chunk(0, piece)]
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message.get("reasoning_content", "")
        assert "".join(delta.get("content", "") for delta in deltas) == message["content"]

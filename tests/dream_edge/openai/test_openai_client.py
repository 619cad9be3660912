"""OpenAI's own client against a real server: nothing of it is bent."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

import dream_edge
from dream_edge_runtime.model import DreamModel
from support.serving import gated, served

QUESTION: Any = [{"role": "user", "content": "What sound does the dog make?"}]
MERCURY_NONE = {"suffix": "<|endoftext|>"}  # what Continue sends of an empty one


@pytest.fixture(scope="module")
def model() -> DreamModel:
    return dream_edge.load("tiny")


def test_chat_is_what_python_gives(client: openai.OpenAI, model: DreamModel) -> None:
    expected = model.chat(QUESTION, max_new_tokens=32)
    answer = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=32)
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (expected.prompt_tokens, expected.new_tokens)
    assert answer.usage.total_tokens == expected.prompt_tokens + expected.new_tokens
    told: Any = answer.model_extra
    assert (told["diffusion"]["steps"], told["diffusion"]["passes"]) == (expected.steps, expected.passes)


@pytest.mark.parametrize("extra", [{}, {"exact": True}, {"algorithm": "entropy", "steps": 12}])
def test_a_stream_adds_up_to_the_answer(client: openai.OpenAI, extra: dict[str, Any]) -> None:
    asked: Any = {"model": "tiny", "messages": QUESTION, "max_completion_tokens": 24, "extra_body": extra, "seed": 7}
    whole = client.chat.completions.create(**asked)
    chunks = [*client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **asked)]
    *parts, last = chunks
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.choices[0].message.content
    assert parts[0].choices[0].delta.role == "assistant"
    assert [part.choices[0].finish_reason for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.choices == []
    assert last.usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_diffusing_stream_replaces_the_text(client: openai.OpenAI, model: DreamModel) -> None:
    steps = [step.text for step in model.stream_chat(QUESTION, max_new_tokens=16, steps=8)]
    extra = {"diffusing": True, "steps": 8, "stream_options": {"include_cells": True}}
    stream = client.chat.completions.create(
        model="tiny", messages=QUESTION, max_tokens=16, stream=True, extra_body=extra
    )
    chunks = [*stream][1:]
    assert [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]] == steps
    assert chunks[-1].choices[0].delta.content == model.chat(QUESTION, max_new_tokens=16, steps=8).text
    told: Any = [(chunk.model_extra or {})["diffusion"] for chunk in chunks[:-1]]
    assert [each["step"] for each in told] == [*range(1, 9)]
    assert [each["progress"] for each in told] == sorted(each["progress"] for each in told)
    assert all(len(each["cells"]) == 16 for each in told)
    masks = [sum(cell["masked"] for cell in each["cells"]) for each in told]
    assert masks == sorted(masks, reverse=True)
    assert masks[-1] == 0
    new = [cell for each in told for cell in each["cells"] if cell["confidence"] is not None]
    assert len(new) == 16
    assert all(0 < cell["confidence"] <= 1 for cell in new)


@pytest.mark.parametrize(("block", "pieces"), [(4, 6), (12, 2), (None, 1)])
def test_a_stream_may_come_in_whole_blocks(client: openai.OpenAI, block: int | None, pieces: int) -> None:
    asked: Any = {"model": "tiny", "prompt": "The old man", "max_tokens": 24, "temperature": 0}
    extra: Any = {
        "block_length": block,
        "algorithm": "entropy",
        "cache": "none",
        "logit_bias": {"969": -100, "971": -100},
    }
    whole = client.completions.create(**asked, extra_body=extra)
    extra["stream_options"] = {"whole_blocks": True}
    texts = [chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True, extra_body=extra)]
    assert "".join(texts) == whole.choices[0].text
    assert len([text for text in texts if text]) == pieces


def test_completions_are_raw_and_echo(client: openai.OpenAI, model: DreamModel) -> None:
    prompt = "The old man"
    expected = model.generate(prompt, raw=True, max_new_tokens=8).text
    asked: Any = {"model": "tiny", "prompt": prompt, "max_tokens": 8, "echo": True}
    assert client.completions.create(**asked).choices[0].text == prompt + expected
    streamed = client.completions.create(stream=True, **asked)
    assert "".join(chunk.choices[0].text for chunk in streamed) == prompt + expected


def test_a_suffix_means_infilling(client: openai.OpenAI, model: DreamModel) -> None:
    expected = model.infill("Yesterday the boys", " the garden.", 2)
    asked: Any = {"model": "tiny", "prompt": "Yesterday the boys", "suffix": " the garden.", "max_tokens": 2}
    found = client.completions.create(**asked)
    assert found.choices[0].text == expected.holes[0]
    without = [client.completions.create(**asked | each).choices[0].text for each in ({"suffix": None}, MERCURY_NONE)]
    assert len({*without}) == 1 != len({*without, expected.holes[0]})
    assert found.usage is not None
    assert found.usage.completion_tokens == 2
    streamed = client.completions.create(stream=True, **asked)
    assert "".join(chunk.choices[0].text for chunk in streamed) == expected.holes[0]
    diffusing = client.completions.create(stream=True, extra_body={"diffusing": True}, **asked)
    assert [chunk.choices[0].text for chunk in diffusing][-1] == expected.holes[0]


def test_several_texts_have_seeds_of_their_own(client: openai.OpenAI, model: DreamModel) -> None:
    hot: Any = {"temperature": 1.5, "top_p": None}
    expected = [model.chat(QUESTION, max_new_tokens=8, seed=seed, **hot).text for seed in (5, 6, 7)]
    asked: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 8, "n": 3, "seed": 5, "temperature": 1.5}
    assert [choice.message.content for choice in client.chat.completions.create(**asked).choices] == expected
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(stream=True, **asked):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == expected


def test_texts_are_cut_at_stop_strings(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 24, "stop": ["ar"]}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content == "A dog b"
    assert whole.choices[0].finish_reason == "stop"
    streamed = client.chat.completions.create(stream=True, **asked)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == "A dog b"


def test_content_may_come_in_parts_and_developers_are_the_system(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(
        model="tiny", max_tokens=24, messages=[{"role": "system", "content": "You are brief."}, *QUESTION]
    )
    parts: Any = [
        {"role": "developer", "content": [{"type": "text", "text": "You are "}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": [{"type": "text", "text": QUESTION[0]["content"]}]},
    ]
    answer = client.chat.completions.create(model="tiny", max_tokens=24, messages=parts)
    assert answer.choices[0].message.content == plain.choices[0].message.content


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="name 'tiny'"):
        client.models.retrieve("somebody/else")


def test_an_answer_may_be_given_back_as_it_came(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "max_tokens": 8}
    message = client.chat.completions.create(messages=QUESTION, **asked).choices[0].message
    plain: Any = {"role": "assistant", "content": message.content}
    answers = [
        client.chat.completions.create(messages=[*QUESTION, each, *QUESTION], **asked).choices[0].message.content
        for each in [plain, message, message.model_dump()]  # the last with a null for all that OpenAI's could have
    ]
    assert len({*answers}) == 1


def test_the_beginning_of_an_answer_may_be_given(client: openai.OpenAI, model: DreamModel) -> None:
    begun: Any = [*QUESTION, {"role": "assistant", "content": "A dog"}]
    answer = client.chat.completions.create(model="tiny", messages=begun, max_tokens=8)
    assert answer.choices[0].message.content == model.chat(begun, max_new_tokens=8).text == " barks."


def test_prompts_may_be_several_and_of_tokens(client: openai.OpenAI, model: DreamModel) -> None:
    texts = ["The old man", "Yesterday the boys"]
    ids = [model.tokenizer.encode(text) for text in texts]
    asked: Any = {"model": "tiny", "max_tokens": 6, "n": 2, "seed": 4, "temperature": 1.5}
    expected = [
        model.generate(text, raw=True, max_new_tokens=6, seed=seed, temperature=1.5)
        for text in texts
        for seed in (4, 5)
    ]
    for prompt in (texts, ids):
        found = client.completions.create(prompt=prompt, **asked)
        assert [choice.text for choice in found.choices] == [each.text for each in expected]
        assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
        assert found.usage is not None
        assert found.usage.prompt_tokens == sum(map(len, ids))
        assert found.usage.completion_tokens == sum(each.new_tokens for each in expected)
        echoed = client.completions.create(prompt=prompt, echo=True, stream=True, **asked)
        streamed = ["", "", "", ""]
        for chunk in echoed:
            streamed[chunk.choices[0].index] += chunk.choices[0].text
        assert streamed == [texts[at // 2] + each.text for at, each in enumerate(expected)]
    one = client.completions.create(prompt=ids[0], **asked)
    assert [choice.text for choice in one.choices] == [each.text for each in expected[:2]]
    between = client.completions.create(prompt=texts, suffix=" the garden.", model="tiny", max_tokens=2)
    holes = [model.infill(text, " the garden.", 2).holes[0] for text in texts]
    assert [choice.text for choice in between.choices] == holes


def test_logprobs_come_with_the_answer_or_at_the_end_of_a_stream(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 16, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.logprobs is not None
    assert whole.logprobs.content is not None
    assert "".join(token.token for token in whole.logprobs.content) == whole.message.content
    assert all(token.logprob == token.top_logprobs[0].logprob for token in whole.logprobs.content)
    with client.chat.completions.stream(**asked) as stream:
        assert stream.get_final_completion().choices[0].logprobs == whole.logprobs


def test_streams_may_be_left_by_the_async_client(url: str) -> None:
    async def leave() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            asked: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 64, "extra_body": {"exact": True}}
            async with await client.chat.completions.create(stream=True, **asked) as stream:
                async for _ in stream:
                    break
            asked |= {"max_tokens": 8}
            return (await client.chat.completions.create(**asked)).choices[0].message.content

    assert asyncio.run(leave())


def test_a_key_and_a_full_queue_have_errors_of_their_own() -> None:
    model, network = gated()
    with served(lambda: model, api_key="s3cret", queue=1) as address, ThreadPoolExecutor(2) as pool:
        stranger = openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0)
        with stranger, pytest.raises(openai.AuthenticationError):
            stranger.models.list()
        with openai.OpenAI(base_url=f"{address}/v1", api_key="s3cret", max_retries=0) as client:
            while client.get("../health", cast_to=httpx.Response).status_code != 200:
                time.sleep(0.01)
            asked: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 4}
            first = pool.submit(lambda: client.chat.completions.create(**asked))
            assert network.entered.wait(10)
            second = pool.submit(lambda: client.chat.completions.create(**asked))
            while client.get("../health", cast_to=httpx.Response).json()["waiting"] != 1:
                time.sleep(0.01)
            with pytest.raises(openai.RateLimitError) as raised:
                client.chat.completions.create(**asked)
            assert int(raised.value.response.headers["retry-after"]) >= 1
            network.gate.set()
            assert first.result().choices[0].message == second.result().choices[0].message


def test_llama_vim_is_understood(url: str, model: DreamModel) -> None:
    own: Any = {"n_indent": 0, "samplers": ["top_k", "infill"], "cache_prompt": True, "t_max_predict_ms": 500}
    own |= {
        "seed": None,
        "grammar": None,
        "top_k": 40,
        "top_p": 0.99,
        "response_fields": ["content"],
        "input_extra": [{"text": "a", "filename": "b"}],
    }
    asked: Any = {"input_prefix": "Yesterday", "prompt": " the boys", "input_suffix": " the garden.", **own}
    expected = model.infill("Yesterday the boys", " the garden.", 2, top_k=40, top_p=0.99).holes[0]
    assert httpx.post(f"{url}/infill", json=asked | {"n_predict": 2}).json()["content"] == expected
    lines = httpx.post(f"{url}/infill", json=asked | {"n_predict": 2, "stream": True}).text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]  # [DONE] is OpenAI's
    assert "".join(event["content"] for event in events) == expected
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
    warm = httpx.post(f"{url}/infill", json=asked | {"n_predict": 0}).json()
    assert (warm["content"], warm["tokens_predicted"]) == ("", 0)


@pytest.mark.parametrize("text", ["Le cafe\u0301\r\n", "\u1112\u1161\u11ab 10 \u212b", "\U0001f469\u200d\U0001f467"])
def test_text_around_holes_is_answered_byte_for_byte(url: str, text: str) -> None:
    asked: Any = {"pieces": [{"text": text}, {"hole": 2}, {"text": text}], "seed": 1}
    whole = httpx.post(f"{url}/v1/fill", json=asked).json()["choices"][0]["text"]
    assert whole.startswith(text)
    assert whole.endswith(text)

    def stream(**more: object) -> list[Any]:
        lines = httpx.post(f"{url}/v1/fill", json=asked | {"stream": True} | more).text.splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line and not line.endswith("[DONE]")]

    assert "".join(event["choices"][0]["text"] for event in stream()) == whole
    events = stream(diffusing=True, stream_options={"include_cells": True})
    assert events[-1]["choices"][0]["text"] == whole
    cells = [event["diffusion"]["cells"] for event in events if "cells" in event.get("diffusion", {})]
    assert len(cells) > 0
    assert all("".join(cell["text"] for cell in each if cell["given"]) == text * 2 for each in cells)


def test_other_ways_to_ask_for_a_route(url: str) -> None:
    assert httpx.get(f"{url}/v1/models/").json() == httpx.get(f"{url}/v1/models").json()
    asked = {"prompt": "The old man", "max_tokens": 1}
    assert httpx.post(f"{url}/v1/completions/", json=asked, follow_redirects=True).status_code == 200
    for path in ("/", "/health", "/v1/models"):
        head, got = httpx.head(url + path), httpx.get(url + path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
    assert "begin with /v1" in httpx.post(f"{url}/chat/completions", json=asked).json()["error"]["message"]
    assert "body is missing" in httpx.post(f"{url}/infill", headers={"Content-Type": "application/json"}).text

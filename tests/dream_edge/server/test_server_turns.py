"""A block-causal model behind the server: what the turns of a conversation cost, how they are streamed and end."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest

import dream_edge
from dream_edge_runtime.generation.prefix_store import PrefixStore
from dream_edge_runtime.generation.results import MASK_SYMBOL
from dream_edge_runtime.model import DreamModel
from support.block_loops import BLOCK, BlockNetwork
from support.serving import GatedNetwork, served

QUESTIONS = ("What sound does the dog make?", "And the cat?", "Why?", "Who says so?", "Are you sure?", "Thank you.")
OPTIONS: Any = {"model": "tiny", "max_tokens": 21, "extra_body": {"threshold": 0.5}}


def make(limit: int = 1 << 24) -> DreamModel:
    """Random words of the tiny Dream's vocabulary, in blocks of 8."""
    tiny = dream_edge.load("tiny", threads=1)
    network = BlockNetwork(replace(tiny.config, causal_block=BLOCK, shift=0))
    return DreamModel(network, tiny.tokenizer, prefixes=PrefixStore(BLOCK, limit))


@pytest.fixture
def url() -> Iterator[str]:
    with served(make, max_tokens=19) as address:
        wait(address)
        yield address


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=5) as opened:
        yield opened


def wait(address: str) -> None:
    while httpx.get(f"{address}/health").status_code != 200:
        pass


def metrics(url: str) -> dict[str, float]:
    lines = re.findall(r"^(dream_edge_\w+) ([\d.e+-]+)$", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


def test_usage_says_how_much_of_a_conversation_was_there_already(client: openai.OpenAI, url: str) -> None:
    """Six turns, streamed and not by turns; each as a model says that keeps nothing, and cheaper."""
    keeping, plain = make(), replace(make(), prefixes=None)
    messages: list[Any] = []
    cached, given = [], []
    for turn, question in enumerate(QUESTIONS):
        messages.append({"role": "user", "content": question})
        expected = keeping.chat(messages, max_new_tokens=21, threshold=0.5)
        assert expected.text == plain.chat(messages, max_new_tokens=21, threshold=0.5).text
        if turn % 2:
            extra: Any = {"stream": True, "stream_options": {"include_usage": True}}
            *parts, last = client.chat.completions.create(messages=messages, **OPTIONS, **extra)
            text, usage = "".join(part.choices[0].delta.content or "" for part in parts), last.usage
        else:
            answer = client.chat.completions.create(messages=messages, **OPTIONS)
            text, usage = answer.choices[0].message.content, answer.usage
        assert text == expected.text
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        assert usage.prompt_tokens_details.cached_tokens == expected.cached_tokens
        assert usage.prompt_tokens == expected.prompt_tokens
        cached.append(expected.cached_tokens)
        given.append(usage.prompt_tokens)
        messages.append({"role": "assistant", "content": text})
    assert cached[0] == 0
    for before, after in zip(given, cached[1:], strict=False):
        assert after >= before // BLOCK * BLOCK
    told = metrics(url)
    assert told["dream_edge_cached_tokens_total"] == sum(cached)
    assert told["dream_edge_prompt_tokens_total"] == sum(given)
    assert keeping.prefixes is not None
    usage = keeping.prefixes.usage
    assert told["dream_edge_prefix_bytes"] == usage.nbytes > 0
    assert told["dream_edge_prefix_blocks"] == usage.blocks
    assert told["dream_edge_prefix_limit_bytes"] == usage.limit
    assert told["dream_edge_prefix_evictions_total"] == 0


def test_conversations_that_begin_alike_share_it_and_a_small_store_lets_go() -> None:
    with served(lambda: make(16 * 8 * 12)) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        wait(url)
        system = {"role": "system", "content": "Answer in one word, whatever you are asked, and never more than that."}
        for question in QUESTIONS * 2:
            asked: Any = [system, {"role": "user", "content": question}]
            answer = client.chat.completions.create(messages=asked, **OPTIONS)
            assert answer.usage is not None
            assert answer.usage.prompt_tokens_details is not None
            assert (answer.usage.prompt_tokens_details.cached_tokens or 0) > 8 or question == QUESTIONS[0]
        told = metrics(url)
        assert told["dream_edge_prefix_evictions_total"] > 0
        assert told["dream_edge_prefix_bytes"] <= told["dream_edge_prefix_limit_bytes"] == 16 * 8 * 12


def test_texts_of_one_request_find_what_the_first_computed(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": QUESTIONS[0]}]
    answer = client.chat.completions.create(messages=messages, n=2, seed=1, temperature=1.0, **OPTIONS)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0  # what was given is counted once, as computed
    alone = make().chat(messages, seed=2, temperature=1.0, max_new_tokens=21, threshold=0.5)
    assert answer.choices[1].message.content == alone.text


def test_other_models_keep_nothing() -> None:
    with served() as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        wait(url)
        messages: Any = [{"role": "user", "content": QUESTIONS[0]}]
        for _ in range(2):
            answer = client.chat.completions.create(messages=messages, model="tiny", max_tokens=8)
            assert answer.usage is not None
            assert answer.usage.prompt_tokens_details is not None
            assert answer.usage.prompt_tokens_details.cached_tokens == 0
        assert not [name for name in metrics(url) if "prefix" in name]


def test_a_stream_adds_what_is_settled_before_its_block_is_done(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": QUESTIONS[0]}]
    steps = [step.settled.rstrip("\ufffd") for step in make().stream_chat(messages, max_new_tokens=21, threshold=0.5)]
    stream = client.chat.completions.create(messages=messages, stream=True, **OPTIONS)
    so_far, pieces = "", [chunk.choices[0].delta.content or "" for chunk in stream]
    for piece in filter(None, pieces[:-1]):
        so_far += piece
        assert so_far in steps
    assert len([*filter(None, pieces)]) > 3


def test_a_diffusing_stream_shows_the_block_that_is_written(client: openai.OpenAI) -> None:
    """Masks of one block at most, after all that was settled before; what is settled stays as it is."""
    messages: Any = [{"role": "user", "content": QUESTIONS[0]}]
    extra = {"diffusing": True, "threshold": 0.5}
    stream = client.chat.completions.create(
        messages=messages, stream=True, model="tiny", max_tokens=40, extra_body=extra
    )
    texts = [chunk.choices[0].delta.content or "" for chunk in stream][1:]
    settled = ""
    for text in texts:
        assert text.count(MASK_SYMBOL) <= BLOCK
        assert text.startswith(settled)
        settled = text.partition(MASK_SYMBOL)[0].rstrip("\ufffd")
    assert MASK_SYMBOL not in texts[-1]


def test_an_answer_without_a_length_goes_on_to_the_servers_limit(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": QUESTIONS[0]}]
    answer = client.chat.completions.create(messages=messages, model="tiny")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 19
    assert answer.choices[0].finish_reason == "length"
    longer = client.chat.completions.create(messages=messages, model="tiny", max_tokens=45)
    assert longer.usage is not None
    assert longer.usage.completion_tokens == 45
    assert (longer.choices[0].message.content or "").startswith((answer.choices[0].message.content or "")[:20])


def test_a_client_that_leaves_leaves_what_was_finished() -> None:
    model = make()
    network = GatedNetwork(model.network)
    messages: Any = [{"role": "user", "content": QUESTIONS[0]}]
    expected = replace(make(), prefixes=None).chat(messages, max_new_tokens=21, threshold=0.5)
    with served(lambda: replace(model, network=network)) as url:
        wait(url)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            stream = client.chat.completions.create(messages=messages, stream=True, **OPTIONS)
            assert network.entered.wait(10)
            threading.Timer(0.2, stream.close).start()
            assert network.cancelled.wait(10)
            assert model.prefixes is not None
            assert model.prefixes.usage.blocks == 0
            network.gate.set()
            for cached in (0, expected.prompt_tokens // BLOCK * BLOCK):
                answer = client.chat.completions.create(messages=messages, **OPTIONS)
                assert answer.choices[0].message.content == expected.text
                assert answer.usage is not None
                assert answer.usage.prompt_tokens_details is not None
                assert answer.usage.prompt_tokens_details.cached_tokens == cached


def test_a_trained_model_finds_all_the_blocks_it_has_finished() -> None:
    """The bundled one: what it answers, its tokenizer reads again as it was written."""
    model = dream_edge.load("tiny-blocks", threads=1)
    plain, block = replace(model, prefixes=None), model.config.causal_block
    assert block is not None
    with served(lambda: model) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        wait(url)
        messages: list[Any] = []
        finished = 0
        for question in QUESTIONS:
            messages.append({"role": "user", "content": question})
            answer = client.chat.completions.create(messages=messages, model="tiny")
            expected = plain.chat(messages)
            text = answer.choices[0].message.content
            assert (text, answer.choices[0].finish_reason) == (expected.text, expected.finish_reason)
            assert answer.usage is not None
            assert answer.usage.prompt_tokens_details is not None
            assert answer.usage.prompt_tokens_details.cached_tokens == finished
            finished = (expected.prompt_tokens + expected.new_tokens) // block * block
            messages.append({"role": "assistant", "content": text})
        assert finished > 2 * block

"""Log-probabilities, biases and penalties of a request, against the logits that the model itself hands out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dream_edge
from dream_edge.openai.requests import ChatRequest
from dream_edge.openai.response_formats import FinishedText
from dream_edge.openai.texts import prepare_chat
from dream_edge_runtime.arrays import FloatArray, IntArray
from dream_edge_runtime.errors import InvalidTokenId
from dream_edge_runtime.model import DreamModel

MESSAGES = [{"role": "user", "content": "What sound does the dog make?"}]


@pytest.fixture(scope="module")
def model() -> DreamModel:
    return dream_edge.load("tiny", threads=1)


def answer(model: DreamModel, **fields: Any) -> FinishedText:
    request = ChatRequest.model_validate({"messages": MESSAGES, "max_tokens": 24, "seed": 3, **fields})
    job = prepare_chat(model, request, "tiny")
    return job.finish(0, job.texts[0].denoising.result())


@pytest.mark.parametrize("extra", [{}, {"exact": True}, {"temperature": 1.2}, {"threshold": 0.5, "block_length": 4}])
def test_a_token_is_as_probable_as_when_it_was_settled(model: DreamModel, extra: dict[str, Any]) -> None:
    seen: dict[int, FloatArray] = {}

    def hook(_step: int, _ids: IntArray, positions: IntArray, logits: FloatArray) -> FloatArray:
        latest.clear()
        latest.update(zip(positions.tolist(), logits.astype(np.float64), strict=True))
        return logits

    latest: dict[int, FloatArray] = {}
    for step in model.stream_chat(MESSAGES, max_new_tokens=24, seed=3, logits_hook=hook, **extra):
        seen |= {at: latest[at] for at in step.revealed.tolist()}
    told = answer(model, logprobs=True, top_logprobs=3, **extra)
    assert told.logprobs is not None
    tokens = told.generation.token_ids[: told.generation.new_tokens]
    assert "".join(each["token"] for each in told.logprobs) == told.text
    start = told.generation.prompt_tokens
    for at, (token, each) in enumerate(zip(tokens, told.logprobs, strict=True), start):
        expected = np.log(np.exp(seen[at]) / np.exp(seen[at]).sum())
        assert each["logprob"] == pytest.approx(expected[token], abs=1e-4)
        assert bytes(each["bytes"]).decode() == each["token"]
        best = np.sort(expected)[::-1][:3]
        assert [top["logprob"] for top in each["top_logprobs"]] == pytest.approx(best.tolist(), abs=1e-4)


def test_asking_for_logprobs_changes_nothing(model: DreamModel) -> None:
    for extra in ({}, {"temperature": 1.0}):
        assert answer(model, **extra).text == answer(model, logprobs=True, **extra).text
    assert answer(model).logprobs is None
    told = answer(model, logprobs=True).logprobs
    assert told is not None
    assert all(each["top_logprobs"] == [] for each in told)


def test_biases_forbid_and_force(model: DreamModel) -> None:
    plain = answer(model)
    assert plain.text == "A dog barks."
    forbidden = str(plain.generation.token_ids[1])
    assert answer(model, logit_bias={forbidden: -100}).generation.token_ids[1] != plain.generation.token_ids[1]
    assert answer(model, logit_bias={forbidden: 0}).text == plain.text
    assert set(answer(model, logit_bias={forbidden: 100}).generation.token_ids) == {int(forbidden)}
    others = {str(token): -99.0 for token in range(model.config.vocab_size) if token != int(forbidden)}
    assert int(forbidden) not in answer(model, logit_bias=others | {forbidden: -100}).generation.token_ids
    assert int(forbidden) in answer(model, logit_bias=others | {forbidden: -99.5}).generation.token_ids
    hot = answer(model, logit_bias={forbidden: -100}, temperature=2.0)
    assert int(forbidden) not in hot.generation.token_ids
    with pytest.raises(InvalidTokenId):
        answer(model, logit_bias={"5000": 1})


@pytest.mark.parametrize(("frequency", "presence"), [(2, 0), (0, 2), (-1.5, 0.5)])
def test_penalties_count_what_the_text_has_already(model: DreamModel, frequency: float, presence: float) -> None:
    prompt = answer(model).generation.prompt_tokens

    def penalize(_step: int, ids: IntArray, _positions: IntArray, logits: FloatArray) -> FloatArray:
        text = [token for token in ids[prompt:].tolist() if token not in model.tokenizer.special_ids]
        for token in text:
            logits[:, token] -= frequency
        for token in {*text}:
            logits[:, token] -= presence
        return logits

    hot: Any = {"temperature": 4, "seed": 3, "algorithm": "left_to_right", "steps": 24}
    expected = model.chat(MESSAGES, max_new_tokens=24, logits_hook=penalize, **hot)
    told = answer(model, frequency_penalty=frequency, presence_penalty=presence, **hot)
    assert told.generation.token_ids == expected.token_ids != answer(model, **hot).generation.token_ids
    cold = answer(model, frequency_penalty=2, presence_penalty=2)
    assert cold.text == "A dog barks."  # its end, many times over, is no repetition

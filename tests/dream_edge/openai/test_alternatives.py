"""The tokens that could stand in one place, against what the network itself says of it."""

from __future__ import annotations

import numpy as np
import pytest

import dream_edge
from dream_edge.openai.alternatives import Alternatives
from dream_edge.openai.requests import AlternativesRequest
from dream_edge_runtime.model import DreamModel


@pytest.fixture(scope="module")
def model() -> DreamModel:
    return dream_edge.load("tiny", threads=1)


@pytest.mark.parametrize(("before", "after"), [("The old", " sat on the mat."), ("The old", ""), ("", " old man")])
def test_they_are_the_likeliest_tokens_between_two_texts(model: DreamModel, before: str, after: str) -> None:
    looked = Alternatives(model, AlternativesRequest(before=before, after=after, count=3))
    looked.text.result()
    encode, mask, shift = model.tokenizer.encode, model.config.mask_token_id, model.config.shift
    given = encode(before)
    ids = np.array([[*given, mask, *encode(after)]])
    positions, visible = np.arange(ids.shape[1])[None], np.ones((1, *ids.shape), np.bool_)
    row = np.array([max(0, len(given) - shift)])
    logits = model.network.forward(ids, positions, visible, row, 0.0, None).fetch_logits()[0].astype(np.float64)
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = np.argsort(-probabilities)[:3]
    assert [each["id"] for each in looked.found] == best.tolist()
    assert [each["text"] for each in looked.found] == [model.tokenizer.decode(best[[rank]]) for rank in range(3)]
    np.testing.assert_allclose([each["probability"] for each in looked.found], probabilities[best], rtol=1e-5)

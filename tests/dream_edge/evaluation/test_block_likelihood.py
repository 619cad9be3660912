"""The bound of a block-causal model: the sum over blocks by its definition, on transformers' networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

import dream_edge
from dream_edge.evaluation.likelihood import bound_likelihood, is_first_choice, split_blocks
from dream_edge.evaluation.subject import Subject
from dream_edge_export.reference.model import Dream
from dream_edge_export.reference.networks import ReferenceNetwork
from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.model import DreamModel
from support.block_loops import BlockNetwork, LogitsOf
from support.checkpoints import random_weights
from support.family import FAMILY, qwen, qwen_logits
from support.networks import small_config, tiny_vocabulary

PROMPT, ANSWER = [5, 17, 40, 8, 11], [23, 99, 7, 301, 12, 4, 88, 9]
BLOCK = 4
FORMS: dict[str, dict[str, Any]] = {
    "no shift": FAMILY["bd3lm-Qwen3-0.6B"] | {"tie_word_embeddings": False, "causal_block": BLOCK},
    "shift": FAMILY["Fast_dLLM_v2_7B"] | {"causal_block": BLOCK},
}


@pytest.fixture(scope="module", params=[*FORMS.values()], ids=[*FORMS])
def dream(request: pytest.FixtureRequest) -> Dream:
    network = Dream(small_config(**request.param))
    network.load_state_dict(random_weights(network.config))
    return network.eval().requires_grad_(False)


def filled_together(shift: int, start: int, stop: int, offset: int) -> list[list[int]]:
    """Positions `start` to `stop` by block; under a shift, the first of each by itself."""
    found: list[list[int]] = []
    for position in range(start, stop):
        within = (position + offset) % BLOCK
        if not found or within == 0 or (shift and within == 1):
            found.append([])
        found[-1].append(position)
    return found


def predictions(dream: Dream) -> LogitsOf:
    """What transformers' network says of each position of a canvas."""
    model, shift = qwen(dream), dream.config.shift

    def logits_of(ids: list[int]) -> FloatArray:
        logits = qwen_logits(model, torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool), BLOCK)[0]
        found: FloatArray = logits[[max(0, at - shift) for at in range(len(ids))]].numpy()
        return found

    return logits_of


def written_out(
    logits_of: LogitsOf, config: ModelConfig, prompt: Sequence[int], answer: Sequence[int], offset: int = 0
) -> float:
    """The bound by its definition, one mask after the other."""
    tokens, total = [*prompt, *answer], 0.0
    for places in filled_together(config.shift, len(prompt), len(tokens), offset):
        by_size = []
        for size in range(1, len(places) + 1):
            estimates = []
            for subset in combinations(places, size):
                seen = [config.mask_token_id if at in subset else tokens[at] for at in range(places[-1] + 1)]
                log_p = torch.from_numpy(logits_of(seen)).double().log_softmax(-1)
                known = sum(log_p[at, tokens[at]].item() for at in subset)
                estimates.append(len(places) / size * known)
            by_size.append(float(np.mean(estimates)))
        total += float(np.mean(by_size))
    return total


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:4], PROMPT[:1], []], ids=len)
def test_enough_samples_give_the_definition(dream: Dream, prompt: list[int], batch_size: int) -> None:
    """Answers that begin inside a block, with one, and with the text; of three or four blocks."""
    rng, network = np.random.default_rng(0), ReferenceNetwork(dream)
    found = bound_likelihood(network, prompt, ANSWER, 15 * 8, rng, batch_size=batch_size)
    assert found == pytest.approx(written_out(predictions(dream), dream.config, prompt, ANSWER), rel=1e-5)


def test_drawn_masks_converge_to_the_definition(dream: Dream) -> None:
    network, rng = ReferenceNetwork(dream), np.random.default_rng(0)
    exact = written_out(predictions(dream), dream.config, PROMPT, ANSWER)
    estimates = [bound_likelihood(network, PROMPT, ANSWER, 12, rng, batch_size=8) for _ in range(60)]
    error = np.std(estimates, ddof=1) / np.sqrt(60)
    assert 0 < error < 0.01 * abs(exact)
    assert abs(np.mean(estimates) - exact) < 4 * error


def test_what_follows_a_block_is_of_no_account(dream: Dream) -> None:
    """Unlike a bound with all of the answer masked at once, in which later masks would be seen by earlier tokens."""
    network = ReferenceNetwork(dream)
    first, both = (
        bound_likelihood(network, PROMPT[:4], ANSWER[:size], 200, np.random.default_rng(0)) for size in (4, 8)
    )
    rest = bound_likelihood(network, [*PROMPT[:4], *ANSWER[:4]], ANSWER[4:], 200, np.random.default_rng(0))
    assert both == pytest.approx(first + rest, rel=1e-6)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("offset", range(BLOCK))
def test_pieces_are_those_that_are_filled_together(shift: int, offset: int) -> None:
    config, tokens = small_config(causal_block=BLOCK, shift=shift), [*range(100, 123)]
    for start in range(1, 9):
        pieces = [*split_blocks(tokens[:start], tokens[start:], config, offset)]
        expected = filled_together(shift, start, len(tokens), offset)
        assert [[token - 100 for token in answer] for _, answer in pieces] == expected
        assert [len(before) for before, _ in pieces] == [places[0] for places in expected]
        assert all([*before, *answer] == tokens[: len(before) + len(answer)] for before, answer in pieces)


@pytest.mark.parametrize("align", ["prompt", "answer"])
@pytest.mark.parametrize("shift", [0, 1])
def test_first_choice_and_bound_are_of_blocks_where_the_decoder_has_them(shift: int, align: str) -> None:
    """Blocks begin where the decoder lets them begin: with the text, or with the answer."""
    for seed in range(4):
        network = BlockNetwork(tiny_vocabulary(shift=shift, causal_block=BLOCK), seed)
        model = DreamModel(network, dream_edge.load("tiny", threads=1).tokenizer)
        options: dict[str, Any] = {"algorithm": "maskgit_plus", "steps": BLOCK, "align": align}
        written = list(model.generate(PROMPT, max_new_tokens=10, **options).token_ids)
        subject = Subject(model=model, options=options, mc_samples=15 * 10)
        offset = subject._offset(PROMPT)
        assert offset == (3 if align == "answer" else 0)
        assert is_first_choice(network, PROMPT, written, offset)
        other = [token if place != 7 else (token + 1) % 40 for place, token in enumerate(written)]
        assert not is_first_choice(network, PROMPT, other, offset)
        expected = written_out(network.predictions(offset), network.config, PROMPT, written, offset)
        assert subject._bound(PROMPT, written) == pytest.approx(expected, rel=1e-5)

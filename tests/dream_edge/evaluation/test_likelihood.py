"""The bound on an answer's likelihood, against its definition written out, and the model's own answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import pytest
import torch

import dream_edge
from dream_edge.evaluation.likelihood import (
    choose_masks,
    draw_masks,
    enumerate_masks,
    is_first_choice,
    log_likelihood,
    split_windows,
)
from dream_edge_export.reference.model import Dream, shift
from dream_edge_export.reference.networks import ReferenceNetwork
from dream_edge_runtime.errors import NonFiniteLogits
from dream_edge_runtime.inference.network import Network
from dream_edge_runtime.text.chat import chat_ids
from support.checkpoints import random_weights
from support.networks import FakeNetwork, small_config

PROMPT, ANSWER = [5, 17, 40, 8], [23, 99, 7, 301]


@pytest.fixture(scope="module")
def dream() -> Dream:
    network = Dream(small_config())
    network.load_state_dict(random_weights(network.config))
    return network.eval().requires_grad_(False)


def written_out(dream: Dream, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """The bound by its definition, one mask after the other."""
    by_size = []
    for size in range(1, len(answer) + 1):
        estimates = []
        for subset in combinations(range(len(answer)), size):
            canvas = [*prompt, *(dream.config.mask_token_id if i in subset else t for i, t in enumerate(answer))]
            log_p = shift(dream(torch.tensor([canvas])), dream.config.shift).log_softmax(-1)[0]
            known = sum(log_p[len(prompt) + place, answer[place]].item() for place in subset)
            estimates.append(len(answer) / size * known)
        by_size.append(float(np.mean(estimates)))
    return float(np.mean(by_size))


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_all_masks_together_give_the_definition(dream: Dream, batch_size: int) -> None:
    found = log_likelihood(ReferenceNetwork(dream), PROMPT, ANSWER, enumerate_masks(4), batch_size=batch_size)
    assert found == pytest.approx(written_out(dream, PROMPT, ANSWER), rel=1e-5)


def test_without_a_prompt_the_first_token_goes_by_its_own_row(dream: Dream) -> None:
    found = log_likelihood(ReferenceNetwork(dream), [], ANSWER, enumerate_masks(4))
    assert found == pytest.approx(written_out(dream, [], ANSWER), rel=1e-5)


def test_drawn_masks_converge_to_the_definition(dream: Dream) -> None:
    network = ReferenceNetwork(dream)
    exact = written_out(dream, PROMPT, ANSWER)
    rng = np.random.default_rng(0)
    estimates = [log_likelihood(network, PROMPT, ANSWER, draw_masks(4, 8, rng), batch_size=8) for _ in range(60)]
    error = np.std(estimates, ddof=1) / np.sqrt(60)
    assert 0 < error < 0.01 * abs(exact)
    assert abs(np.mean(estimates) - exact) < 4 * error


@pytest.mark.parametrize(("length", "samples"), list(product((1, 3, 10), (1, 5, 40))))
def test_weights_count_every_token_once(length: int, samples: int) -> None:
    """Where each token had log p = -1 whatever is masked, any masks must find -length."""
    for masks in (enumerate_masks(length), draw_masks(length, samples, np.random.default_rng(1))):
        assert (masks.weights * masks.masked.sum(axis=1)).sum() == pytest.approx(length)
        assert masks.masked.any(axis=1).all()


def test_sizes_of_drawn_masks_are_stratified() -> None:
    sizes = draw_masks(10, 40, np.random.default_rng(2)).masked.sum(axis=1)
    assert np.bincount(sizes).tolist() == [0, *[4] * 10]


def test_every_place_is_masked_equally_often() -> None:
    masked = draw_masks(5, 20000, np.random.default_rng(3)).masked
    assert masked.mean(axis=0) == pytest.approx(np.full(5, 0.6), abs=0.02)  # the mean size is 3 of 5


def test_short_answers_get_all_their_masks() -> None:
    rng = np.random.default_rng(4)
    assert [len(choose_masks(length, 128, rng).weights) for length in (1, 7, 8, 400)] == [1, 127, 128, 128]
    assert len(np.unique(enumerate_masks(7).masked, axis=0)) == 127


def test_first_choice_is_what_the_model_would_write(dream: Dream) -> None:
    canvas = torch.tensor([[*PROMPT, *[dream.config.mask_token_id] * 4]])
    for _ in range(4):
        probabilities = shift(dream(canvas), dream.config.shift).softmax(-1)[0]
        masked = canvas[0] == dream.config.mask_token_id
        confidence, best = probabilities.max(-1)
        position = int(confidence.masked_fill(~masked, -1).argmax())
        canvas[0, position] = best[position]
    network, written = ReferenceNetwork(dream), canvas[0, len(PROMPT) :].tolist()
    assert is_first_choice(network, PROMPT, written)
    for place in range(4):
        other = [token + (index == place) for index, token in enumerate(written)]
        assert not is_first_choice(network, PROMPT, other)


def test_the_first_wrong_token_decides() -> None:
    network = FakeNetwork(small_config(), lambda ids, _: torch.zeros(*ids.shape, 448))
    assert not is_first_choice(network, PROMPT, [1, 2, 3])  # equal logits propose id 0
    assert network.passes == 1


def test_logits_that_are_not_numbers_are_an_error() -> None:
    network: Network = FakeNetwork(small_config(), lambda ids, _: torch.full((*ids.shape, 448), torch.nan))
    with pytest.raises(NonFiniteLogits):
        log_likelihood(network, PROMPT, ANSWER, enumerate_masks(4))


def test_a_right_answer_is_likelier_than_a_wrong_one() -> None:
    model = dream_edge.load("tiny", threads=1)
    prompt = chat_ids(model.tokenizer, [{"role": "user", "content": "What sound does the dog make?"}])
    answers = [model.tokenizer.encode(f"A dog {does}.") for does in ("barks", "moos", "sings")]
    bounds = [
        log_likelihood(model.network, prompt, answer, choose_masks(len(answer), 32, np.random.default_rng(0)))
        for answer in answers
    ]
    assert bounds[0] > max(bounds[1:]) + 3
    assert bounds[0] > -0.5


@pytest.mark.parametrize(("length", "context"), [(0, 8), (1, 8), (4, 8), (5, 8), (31, 8), (31, 9), (31, 2), (3, 100)])
def test_windows_hold_every_token_once_behind_what_precedes_it(length: int, context: int) -> None:
    text = [*range(100, 100 + length)]
    found = [*split_windows(text, 1, context)]
    assert [token for _, answer in found for token in answer] == text
    whole, end = [1, *text], 1
    for prompt, answer in found:
        assert 1 <= len(prompt) <= context - len(answer)
        assert prompt == whole[end - len(prompt) : end]
        assert len(prompt) == min(end, context - len(answer))
        end += len(answer)

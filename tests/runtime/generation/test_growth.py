"""Canvases that double until the end of the text is in sight: against the rule restated, and what callers see."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import dream_edge
from dream_edge_runtime.errors import Cancelled, InvalidOption
from dream_edge_runtime.generation.canvas import Canvas, MaskedSequence
from dream_edge_runtime.generation.length import grow_canvas
from dream_edge_runtime.model import DreamModel
from support.daedal import length_found_plainly
from support.networks import FakeNetwork, random_network, tiny_vocabulary
from tools.tiny import questions
from tools.tiny.texts import messages_of

CONFIG = tiny_vocabulary()
END = CONFIG.eos_token_id


def ending_at(place: int, seed: int = 0) -> FakeNetwork:
    """A random network that wants the text to end from position `place` on, and does not know for sure just there."""
    network = random_network(CONFIG, seed=seed)
    logits_of = network.logits_of

    def ending(ids: Any, valid: Any) -> Any:
        logits = logits_of(ids, valid)
        at = valid.cumsum(1) - 1  # row i predicts what stands at i + 1
        logits[..., END] += ((at + 1 - place) * 2.0).clamp(-15, 15)
        logits[..., CONFIG.mask_token_id] -= 50
        return logits

    network.logits_of = ending
    return network


@pytest.mark.parametrize("most", [3, 7, 40, 100])
@pytest.mark.parametrize("first", [1, 3, 8, 70])
@pytest.mark.parametrize("place", [0, 9, 30, 1000])
def test_length_is_that_of_the_rule_restated(place: int, first: int, most: int) -> None:
    """Also in a batch with prompts of unequal lengths, where every sequence grows by itself."""
    prompts = [[3, 1, 4], [5] * 11, [2]]
    network, ends = ending_at(place), frozenset({END, 7})
    sequences = [MaskedSequence.of([prompt, min(first, most)], CONFIG.mask_token_id) for prompt in prompts]
    canvas = Canvas(sequences, CONFIG.mask_token_id, CONFIG.pad_token_id, shift=1)
    passes = grow_canvas(network, canvas, dict.fromkeys(range(3), most), ends, None)
    for row, prompt in enumerate(prompts):
        masks, looks = length_found_plainly(network, prompt, first, most, ends)
        assert canvas.sequence(row).tolist() == prompt + [CONFIG.mask_token_id] * masks
        assert canvas.holes[row] == (range(len(prompt), len(prompt) + masks),)
        assert passes[row] == looks


def test_text_is_that_of_a_canvas_of_the_length_found() -> None:
    model = DreamModel(ending_at(14), dream_edge.load("tiny").tokenizer)
    options: dict[str, Any] = {"algorithm": "entropy", "temperature": 1.0, "seed": 3}
    grown = model.generate([3, 1], max_new_tokens=200, grow_from=4, **options)
    length, looks = length_found_plainly(ending_at(14), [3, 1], 4, 200, frozenset({END, 7}))
    assert 4 < length < 200
    fixed = model.generate([3, 1], max_new_tokens=length, **options)
    assert (grown.token_ids, grown.text) == (fixed.token_ids, fixed.text)
    assert grown.passes == fixed.passes + looks
    assert grown.steps == fixed.steps


def test_a_text_in_a_batch_does_not_depend_on_its_neighbours() -> None:
    model = DreamModel(ending_at(14), dream_edge.load("tiny").tokenizer)
    options: dict[str, Any] = {"algorithm": "entropy", "max_new_tokens": 60, "grow_from": 4}
    prompts = [[3, 1], [4] * 13, [6, 7, 8]]
    together = model.generate_batch(prompts, **options)
    assert len({len(each.token_ids) for each in together}) > 1
    for prompt, each in zip(prompts, together, strict=True):
        alone = model.generate(prompt, **options)
        assert (each.token_ids, each.steps, each.passes) == (alone.token_ids, alone.steps, alone.passes)


def test_no_look_is_made_where_nothing_can_grow() -> None:
    network = ending_at(0)
    model = DreamModel(network, dream_edge.load("tiny").tokenizer)
    assert model.generate([3, 1], max_new_tokens=4, grow_from=4, algorithm="entropy").passes <= 4


def test_steps_show_the_canvas_that_was_found() -> None:
    model = DreamModel(ending_at(14), dream_edge.load("tiny").tokenizer)
    for step in model.stream([3, 1], max_new_tokens=60, grow_from=4, algorithm="entropy"):
        assert step.shown == range(2, len(step.ids))
        assert step.holes == (step.shown,)
        assert 0 <= step.progress <= 1
        assert step.steps == len(step.shown)


def test_looking_can_be_cancelled() -> None:
    model = dream_edge.load("tiny")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        model.generate("Hello", max_new_tokens=60, grow_from=4, cancel=cancel)


def test_growth_has_no_place_where_the_end_is_given() -> None:
    model = dream_edge.load("tiny")
    with pytest.raises(InvalidOption, match="end_with"):
        model.generate("Hello", max_new_tokens=60, grow_from=4, end_with="Bye.")
    with pytest.raises(InvalidOption, match="texts with holes"):
        model.infill("a", "b", 3, grow_from=4)
    with pytest.raises(InvalidOption, match="exact"):
        model.generate("Hello", exact=True, grow_from=4)


def test_tiny_answers_the_same_on_a_canvas_that_grew() -> None:
    model = dream_edge.load("tiny")
    for case in questions.generate(np.random.default_rng(3), 4, held_out=True):
        messages = messages_of(case.prompt)
        fixed, grown = (model.chat(messages, max_new_tokens=96, grow_from=first) for first in (None, 8))
        assert questions.solves(case.prompt, fixed.text)
        assert questions.solves(case.prompt, grown.text)
        assert len(grown.token_ids) < len(fixed.token_ids)

"""Block-causal models: the published loops on identical logits, and what is computed for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.generation import finished_blocks
from dream_edge_runtime.generation.config import SAMPLERS, GenerationConfig
from dream_edge_runtime.generation.finished_blocks import MOST_AT_ONCE
from support.block_loops import BLOCK, END, MASK, bd3lm, dream_reasoner, fast_dllm_v2, make_block_model, prompt_of

LENGTHS = (1, 5, 7, 8, 9, 16, 21)
"""Of prompts: inside a block, at its end, and of several."""


def assert_steps(history: Sequence[IntArray] | None, expected: Sequence[Sequence[int]]) -> None:
    """Equal as far as both canvases reach, with masks beyond: the published loops lay blocks out sooner or later."""
    assert history is not None
    assert len(history) == len(expected)
    for found, published in zip(history, expected, strict=True):
        common = min(len(found), len(published))
        assert found.tolist()[:common] == list(published)[:common]
        assert {*found.tolist()[common:], *published[common:]} <= {MASK}


# --- the published loops ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [None, 5, 3, 1])
@pytest.mark.parametrize("threshold", [0.9, 0.5, 0.2, None])
@pytest.mark.parametrize("length", LENGTHS)
def test_steps_are_those_of_block_diffusion_generate(length: int, threshold: float | None, steps: int | None) -> None:
    """DreamReasoner's, dynamic and static. A prompt that ends inside a block begins the answer there."""
    if threshold is None and BLOCK % (steps or BLOCK):
        pytest.skip("the static loop shares masks out as BD3-LM's does")
    for seed in range(3):
        model, network = make_block_model(0, seed)
        prompt = prompt_of(length, seed)
        new = 3 * BLOCK - length % BLOCK  # it always computes whole blocks
        expected = dream_reasoner(network.predictions(), prompt, new, BLOCK, MASK, threshold=threshold, steps=steps)
        reveal = threshold and f"low_confidence:{threshold}"
        options: dict[str, Any] = {**SAMPLERS["block_diffusion"], "reveal": reveal, "steps": steps}
        found = model.generate(prompt, GenerationConfig(max_new_tokens=new, **options), history=True)
        assert_steps(found.history, expected[: len(found.history or ())])
        if END not in found.token_ids:
            assert len(found.history or ()) == len(expected)


@pytest.mark.parametrize("threshold", [1.0, 0.9, 0.5, 0.2])
@pytest.mark.parametrize("length", LENGTHS)
def test_steps_are_those_of_fast_dllm_v2(length: int, threshold: float) -> None:
    """Sub-blocks inside a block; the first token of a block from the last row of the one before it."""
    for seed in range(3):
        model, network = make_block_model(1, seed)
        prompt = prompt_of(length, seed)
        expected = fast_dllm_v2(network.predictions(), prompt, 3, BLOCK, 4, MASK, END, threshold)
        reveal = f"low_confidence:{threshold}"
        options: dict[str, Any] = {**SAMPLERS["fast_dllm_v2"], "reveal": reveal, "block_length": 4}
        config = GenerationConfig(max_new_tokens=len(expected[-1]) - length, stop_at_end=True, **options)
        found = model.generate(prompt, config, history=True)
        assert found.history is not None
        assert_steps(found.history[:-1], expected[:-1])
        ended = expected[-1].index(END, length) if END in expected[-1][length:] else len(expected[-1])
        assert found.history[-1].tolist()[:ended] == expected[-1][:ended]  # what follows the end is padding here


@pytest.mark.parametrize("steps", [8, 6, 5, 3, 1])
@pytest.mark.parametrize("length", LENGTHS)
def test_steps_are_those_of_bd3lm(length: int, steps: int) -> None:
    """The answer begins a block; the last one may be shorter."""
    for seed in range(3):
        model, network = make_block_model(0, seed)
        prompt = prompt_of(length, seed)
        expected = bd3lm(network.predictions(-length % BLOCK), prompt, 3 * BLOCK, BLOCK, MASK, END, steps)
        config = GenerationConfig(max_new_tokens=3 * BLOCK, steps=steps, **SAMPLERS["bd3lm"])
        assert_steps(model.generate(prompt, config, history=True).history, expected)


def test_published_loops_judge_by_the_distribution_they_draw_from() -> None:
    """With one candidate left every token is certain, so that each block takes one step."""
    model, _ = make_block_model(0, 0)
    config = GenerationConfig(max_new_tokens=3 * BLOCK, top_k=1, **SAMPLERS["block_diffusion"])
    assert model.generate(prompt_of(BLOCK), config).steps == 3
    assert model.generate(prompt_of(BLOCK), config.replace(threshold=0.9)).steps > 6


# --- what is computed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, SAMPLERS["bd3lm"], {"threshold": 0.9}, {"block_length": 3}], ids=str)
@pytest.mark.parametrize("length", [*LENGTHS, 300])
@pytest.mark.parametrize("shift", [0, 1])
def test_nothing_is_computed_twice(shift: int, length: int, options: dict[str, Any]) -> None:
    """A token of the prompt once; one of a finished block once more than its block has steps; of the last, as often.

    Under a shift, the first token of a block is told by the last pass over the block before it.
    """
    model, network = make_block_model(shift, 1)
    config = GenerationConfig(max_new_tokens=3 * BLOCK, **{"algorithm": "maskgit_plus", **options})
    found = model.generate(prompt_of(length), config, history=True)
    assert found.history is not None
    offset = -length % BLOCK if config.align == "answer" else 0
    steps: Counter[int] = Counter()
    before = np.array([*prompt_of(length), *[MASK] * 40])
    for canvas in found.history:
        places = np.flatnonzero(canvas != before[: len(canvas)])
        steps += Counter({int(place + offset) // BLOCK for place in places if shift == 0 or (place + offset) % BLOCK})
        before[: len(canvas)] = canvas
    total = len(found.history[-1])
    last = (total - 1 + offset) // BLOCK
    computed = Counter(place for active in network.active for place in active)
    assert total - length > BLOCK
    for place in range(total):
        block = (place + offset) // BLOCK
        assert computed[place] == steps[block] + (block < last)
    assert len(network.active) == found.passes
    assert max(map(len, network.active)) <= MOST_AT_ONCE


def test_a_long_prompt_is_computed_in_parts_that_see_what_a_whole_pass_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for most in (BLOCK, 3 * BLOCK + 1, 1000):
        monkeypatch.setattr(finished_blocks, "MOST_AT_ONCE", most)
        model, network = make_block_model(0, 2)
        texts.append(model.generate(prompt_of(77), max_new_tokens=20).token_ids)
        assert max(map(len, network.active)) <= max(most, 2 * BLOCK)
    assert texts[0] == texts[1] == texts[2]


def test_a_hook_may_rewrite_a_finished_block() -> None:
    """What stood there is computed again, and seen as it is now; what is masked again is revealed again."""
    model, network = make_block_model(0, 0)
    prompt, passes = prompt_of(12), []

    def rewrite(step: int | None, ids: IntArray) -> IntArray:
        if step == 4:
            passes.append(len(network.active))
            ids[2:7] = 3
            ids[13] = MASK
        return ids

    found = model.generate(prompt, max_new_tokens=20, threshold=0.3, history=True, token_hook=rewrite)
    assert found.history is not None
    assert network.active[passes[0] - 1][0] >= 8  # the prompt's first block was kept
    assert network.active[passes[0]] == [*range(16)]
    for before, after in pairwise(found.history[4:]):
        changed = np.flatnonzero(after[: len(before)] != before)
        assert after[changed].tolist() == network.predictions()(before.tolist())[changed].argmax(axis=1).tolist()
    assert MASK not in found.history[-1]
    assert found.history[-1][2:7].tolist() == [3] * 5

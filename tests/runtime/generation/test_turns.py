"""The turns of a conversation with a block-causal model: what each computes, finds and says."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dream_edge
from dream_edge_export.export import export
from dream_edge_runtime.arrays import FloatArray, IntArray
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.generation.config import SAMPLERS
from dream_edge_runtime.generation.prefix_store import PrefixStore
from dream_edge_runtime.generation.results import Generation
from dream_edge_runtime.inference.network import Rows
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.model import DreamModel
from support.block_loops import BlockNetwork
from support.family import FAMILY, write_family_checkpoint
from support.networks import tiny_vocabulary

BLOCK, MASK, END = 8, 47, 46
TOKENIZER = dream_edge.load("tiny", threads=1).tokenizer
NEW = (19, 6, 8, 41, 3, 16)
"""Tokens that each of six turns adds before its answer."""


class Recording(BlockNetwork):
    """Counts for each finished block of a pass, known by all the tokens up to its end, how often it was computed."""

    def __init__(self, **config: Any) -> None:
        super().__init__(tiny_vocabulary(causal_block=BLOCK, **config))
        self.finished: Counter[tuple[int, ...]] = Counter()
        self.tokens = 0

    def forward(self, *args: Any, past: Any = None, **keywords: Any) -> Rows:
        (ids,), (positions,) = args[:2]
        canvas = [*(past.ids.tolist() if past else []), *ids.tolist()]
        self.tokens += len(ids)
        for stop in range(BLOCK, len(canvas) + 1, BLOCK):
            if stop > positions[0] and MASK not in canvas[:stop]:
                self.finished[tuple(canvas[:stop])] += 1
        return super().forward(*args, past=past, **keywords)


def make(limit: int | None = 1 << 20, **config: Any) -> tuple[DreamModel, Recording]:
    network = Recording(**config)
    return DreamModel(network, TOKENIZER, prefixes=PrefixStore(BLOCK, limit) if limit else None), network


def talk(model: DreamModel, **options: Any) -> list[Generation]:
    """Six turns. Each is given all that was said, the answers up to their end, and some tokens of its own."""
    rng, said, answers = np.random.default_rng(3), list[int](), list[Generation]()
    for new in NEW:
        said += rng.integers(END, size=new).tolist()
        answers.append(model.generate(said, max_new_tokens=29, stop_at_end=True, **options))
        ids = list(answers[-1].token_ids)
        said += ids[: ids.index(END) + 1] if END in ids else ids
    return answers


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("options", [{}, {"threshold": 0.5}, {"temperature": 1.0, "seed": 5}], ids=str)
def test_six_turns_compute_each_token_once(options: dict[str, Any], shift: int) -> None:
    model, network = make(shift=shift)
    answers = talk(model, **options)
    assert set(network.finished.values()) == {1}
    without, plain = make(None, shift=shift)
    assert [each.token_ids for each in talk(without, **options)] == [each.token_ids for each in answers]
    assert set(network.finished) == set(plain.finished)
    assert max(plain.finished.values()) >= 6
    assert answers[0].cached_tokens == 0
    for before, after in pairwise(answers):
        said = before.prompt_tokens + (before.new_tokens - 1) // BLOCK * BLOCK  # the end is in the last block
        assert before.prompt_tokens // BLOCK * BLOCK <= after.cached_tokens < after.prompt_tokens
        assert said // BLOCK * BLOCK - BLOCK <= after.cached_tokens
    assert plain.tokens - network.tokens == sum(each.cached_tokens for each in answers)


def test_answers_that_begin_a_block_find_prompts_that_leave_the_same_rest() -> None:
    """BD3-LM lays blocks out from the answer backwards: others, unless both prompts are as far from whole blocks."""
    model, _ = make(shift=0)
    said = np.random.default_rng(0).integers(END, size=40).tolist()
    cached = [
        model.generate(said[:length], max_new_tokens=8, **SAMPLERS["bd3lm"]).cached_tokens
        for length in (21, 22, 29, 37, 40)
    ]
    assert cached == [0, 0, 21, 29, 0]


def test_texts_of_a_batch_share_what_they_begin_with() -> None:
    model, network = make(shift=0)
    said = np.random.default_rng(0).integers(END, size=24).tolist()
    prompts = [[*said, 1, 2], [*said, 3], [*said[:16], 4]]
    made = model.generate_batch(prompts, max_new_tokens=9)
    assert [each.cached_tokens for each in made] == [0, 24, 16]
    assert set(network.finished.values()) == {1}
    without = make(None, shift=0)[0].generate_batch(prompts, max_new_tokens=9)
    assert [each.token_ids for each in made] == [each.token_ids for each in without]


@pytest.mark.parametrize(("shift", "cached"), [(0, 16), (1, 8)])
def test_a_prompt_of_whole_blocks_is_found_as_far_as_the_answer_needs_no_row_of_it(shift: int, cached: int) -> None:
    """Under a shift its last row tells the first token of the answer, and what a pass says is not kept."""
    model, network = make(shift=shift)
    prompt = np.random.default_rng(0).integers(END, size=16).tolist()
    first, again = (model.generate(prompt, max_new_tokens=8) for _ in range(2))
    assert (first.cached_tokens, again.cached_tokens) == (0, cached)
    assert first.token_ids == again.token_ids
    assert network.finished == {tuple(prompt[:8]): 1, tuple(prompt): 1 + shift}


def test_a_small_store_changes_nothing_but_what_is_found() -> None:
    bytes_each = 16 * BLOCK
    expected = [each.token_ids for each in talk(make(None, shift=0)[0])]
    for blocks in (1, 3, 7):
        model, _ = make(blocks * bytes_each, shift=0)
        answers = talk(model)
        assert [each.token_ids for each in answers] == expected
        assert model.prefixes is not None
        assert model.prefixes.usage.nbytes <= blocks * bytes_each
        assert [each.cached_tokens for each in answers[2:]] == [blocks * BLOCK] * 4


def test_conversations_at_once_say_what_they_say_alone() -> None:
    """Four threads on one store with too little room: the same conversation twice, and two others."""
    expected = [
        [each.token_ids for each in talk(make(None, shift=0)[0], temperature=1.0, seed=seed)] for seed in range(3)
    ]
    model, _ = make(16 * BLOCK * 20, shift=0)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: talk(model, temperature=1.0, seed=seed), [0, 1, 0, 2]))
    assert [[each.token_ids for each in one] for one in found] == [expected[seed] for seed in (0, 1, 0, 2)]


def test_an_answer_that_is_stopped_leaves_what_it_finished() -> None:
    """Stopped before any pass: the next time, exactly the finished blocks are found, and the text is the same."""
    prompt = np.random.default_rng(0).integers(END, size=19).tolist()
    expected = make(None, shift=0)[0].generate(prompt, max_new_tokens=20)
    for passes in range(1, expected.passes):
        model, network = make(shift=0)
        cancel = threading.Event()

        class Stopped(Recording):
            def forward(self, *args: Any, **keywords: Any) -> Rows:
                if len(network.active) == passes:  # noqa: B023 - called in this turn of the loop
                    cancel.set()  # noqa: B023
                    raise Cancelled
                return network.forward(*args, **keywords)  # noqa: B023

        with pytest.raises(Cancelled):
            replace(model, network=Stopped(shift=0)).generate(prompt, max_new_tokens=20, cancel=cancel)
        finished = max(map(len, network.finished))
        again = model.generate(prompt, max_new_tokens=20)
        assert again.cached_tokens == min(16, finished)
        assert again.token_ids == expected.token_ids
        assert set(network.finished.values()) == {1}


@pytest.mark.parametrize(("scheme", "tolerance"), [("fp32", 1e-5), ("int8", 1e-2)])
@pytest.mark.parametrize("name", ["bd3lm-Qwen3-0.6B", "Fast_dLLM_v2_1.5B"])
def test_a_real_network_says_what_it_says_without_a_store(
    tmp_path: Path, name: str, scheme: str, tolerance: float
) -> None:
    """Six turns with the same tokens and nearly the same logits: a processor may round otherwise in smaller passes.

    In 8 bits, an activation may thereby become the next integer.
    """
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", **FAMILY[name])
    artifact = export(checkpoint, tmp_path / "artifact", Recipe.for_scheme(scheme, layers=2).fit(checkpoint.config))
    network = OnnxNetwork(artifact, threads=1)
    runs = []
    for store in (PrefixStore(BLOCK, 1 << 24), None):
        seen: list[FloatArray] = []

        def note(_step: int, _ids: IntArray, _positions: IntArray, logits: FloatArray) -> FloatArray:
            seen.append(logits.copy())  # noqa: B023 - called in this turn of the loop
            return logits

        answers = talk(DreamModel(network, TOKENIZER, prefixes=store), logits_hook=note)
        runs.append((answers, np.concatenate(seen)))
    (kept, found), (computed, expected) = runs
    assert [each.token_ids for each in kept] == [each.token_ids for each in computed]
    assert sum(each.cached_tokens for each in kept) > 300
    assert sum(each.cached_tokens for each in computed) == 0
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
    assert all(each.passes <= other.passes for each, other in zip(kept, computed, strict=True))

"""What callers of a block-causal model see: texts that end by themselves, blocks that come one by one, errors."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dream_edge_export.export import export
from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.errors import Cancelled, CanvasTooLong, InvalidConfig, InvalidOption
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.generation.config import DEFAULT_NEW_TOKENS, SAMPLERS, GenerationConfig
from dream_edge_runtime.generation.prefix_store import PrefixStore
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.model import DreamModel
from support.block_loops import (
    BLOCK,
    END,
    BlockNetwork,
    dream_reasoner,
    fast_dllm_v2,
    make_block_model,
    prompt_of,
)
from support.family import FAMILY, write_family_checkpoint
from support.networks import tiny_vocabulary
from support.remembering import Snapshot


class EndingNetwork(BlockNetwork):
    """Its texts end at `place` of the canvas."""

    place = 0

    def logits_at(self, ids: IntArray, positions: IntArray, keys: Snapshot, mask: BoolArray) -> FloatArray:
        logits = super().logits_at(ids, positions, keys, mask)
        logits[:, END] = np.where(positions + self.config.shift == self.place, 100, -100)
        return logits


def ending_at(place: int, shift: int = 0) -> tuple[DreamModel, BlockNetwork]:
    model, _ = make_block_model(shift)
    network = EndingNetwork(model.config)
    network.place = place
    return DreamModel(network, model.tokenizer), network


# --- where a text ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at_end", [False, True])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("place", [12, 15, 16, 23, 40])
def test_nothing_is_computed_after_the_block_that_holds_the_end(place: int, shift: int, stop_at_end: bool) -> None:
    model, network = ending_at(place, shift=shift)
    found = model.generate(prompt_of(12), algorithm="maskgit_plus", stop_at_end=stop_at_end)
    assert found.new_tokens == place - 12
    assert found.finish_reason == "stop"
    assert len(found.token_ids) == (place // BLOCK + 1) * BLOCK - 12
    assert max(max(active) for active in network.active) < (place // BLOCK + 1) * BLOCK
    assert found.prompt_tokens == 12


def test_a_text_goes_on_to_the_end_of_the_context_and_no_further() -> None:
    model, _ = ending_at(1000)
    found = DreamModel(model.network, model.tokenizer, context=45).generate(prompt_of(12))
    assert (found.new_tokens, len(found.token_ids), found.finish_reason) == (33, 33, "length")
    for length in (45, 46):
        with pytest.raises(CanvasTooLong):
            DreamModel(model.network, model.tokenizer, context=45).generate(prompt_of(length))


@pytest.mark.parametrize("most", [1, 4, 5, 12, 13, 30])
def test_a_length_that_is_named_is_kept(most: int) -> None:
    model, network = ending_at(1000)
    found = model.generate(prompt_of(12), max_new_tokens=most)
    assert (found.new_tokens, len(found.token_ids), found.finish_reason) == (most, most, "length")
    assert max(max(active) for active in network.active) == 11 + most


def test_a_stop_string_ends_the_text_with_its_block() -> None:
    model, _ = ending_at(1000)
    whole = model.generate(prompt_of(12), max_new_tokens=60)
    stop = model.tokenizer.decode(whole.token_ids[6:9])
    found = model.generate(prompt_of(12), stop=stop)
    assert found.text == whole.text[: whole.text.index(stop)]
    assert found.finish_reason == "stop"
    assert len(found.token_ids) == 12  # 4 in the prompt's block, 8 in the next


def test_full_attention_has_its_default_length() -> None:
    """And does not know where the blocks of others begin."""
    model = DreamModel(BlockNetwork(tiny_vocabulary(shift=0, causal_block=None)), make_block_model()[0].tokenizer)
    assert len(model.generate(prompt_of(3), steps=1).token_ids) == DEFAULT_NEW_TOKENS
    with pytest.raises(InvalidOption, match=r"align.*block-causal"):
        model.generate(prompt_of(3), align="answer")


# --- steps -----------------------------------------------------------------------------------------------------------


def test_blocks_come_one_by_one() -> None:
    model, _ = ending_at(30)
    lengths, settled = [], ""
    for step in model.stream(prompt_of(12), threshold=0.5):
        lengths.append(len(step.ids))
        assert step.settled.startswith(settled)
        settled = step.settled
        assert step.index <= step.steps
        assert 0 < step.progress <= 1
        assert step.holes == (range(12, len(step.ids)),)
        assert not step.masked[: -BLOCK or None].any()
        if step.moved is not None:
            assert step.moved.tolist() == [*range(len(step.ids) - BLOCK), *[-1] * BLOCK]
    assert sorted(set(lengths)) == [16, 24, 32]
    assert lengths == sorted(lengths)
    assert step.progress == 1


def test_history_is_that_of_the_canvas_as_it_grows() -> None:
    model, _ = ending_at(30)
    denoising = model.stream(prompt_of(12), threshold=0.5, history=True)
    seen = [step.ids.tolist() for step in denoising]
    assert [each.tolist() for each in denoising.result().history or ()] == seen


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "threshold": 0.3}, {"algorithm": "origin", "steps": 5}])
def test_a_seed_repeats_a_text(options: dict[str, Any]) -> None:
    model, _ = ending_at(50)
    first, second = (model.generate(prompt_of(9), seed=4, **options) for _ in range(2))
    assert first.token_ids == second.token_ids
    assert first.seed == 4


@pytest.mark.parametrize("align", ["prompt", "answer"])
@pytest.mark.parametrize("shift", [0, 1])
def test_texts_in_a_batch_are_those_they_are_alone(shift: int, align: Any) -> None:
    """Prompts of unequal lengths, ends at different blocks."""
    model, _ = ending_at(40, shift=shift)
    prompts = [prompt_of(length, 1) for length in (3, 8, 21, 12)]
    together = model.generate_batch(prompts, max_new_tokens=50, threshold=0.5, align=align)
    alone = [model.generate(prompt, max_new_tokens=50, threshold=0.5, align=align) for prompt in prompts]
    assert [each.token_ids for each in together] == [each.token_ids for each in alone]
    assert [each.passes for each in together] == [each.passes for each in alone]
    assert len({len(each.token_ids) for each in alone}) > 1


def test_it_stops_when_cancelled() -> None:
    model, network = ending_at(1000)
    cancel = threading.Event()
    steps = model.stream(prompt_of(12), cancel=cancel)
    for _ in range(20):
        next(steps)
    cancel.set()
    with pytest.raises(Cancelled):
        next(steps)
    assert len(network.active) == 20


def test_hooks_see_the_canvas_as_it_grows() -> None:
    model, _ = ending_at(30)
    seen: list[int] = []

    def forbid(_step: int, ids: IntArray, _positions: IntArray, logits: FloatArray) -> FloatArray:
        seen.append(len(ids))
        logits[:, 7] = -1000
        return logits

    found = model.generate(prompt_of(12), logits_hook=forbid)
    assert 7 not in found.token_ids
    assert set(seen) == {16, 24, 32}


# --- holes and endings -----------------------------------------------------------------------------------------------


def test_a_hole_is_filled_from_what_stands_before_it_and_in_its_block() -> None:
    """Every token is what the network says of a canvas that ends with its block."""
    model, network = make_block_model(vocab_size=700)
    pieces: list[str | int] = ["abcde", 2, "f", 6, "ghijklm and so on and on"]
    steps = list(model.stream_fill(pieces, algorithm="left_to_right"))
    for before, after in pairwise(step.ids for step in steps):
        (place,) = np.flatnonzero(before != after)
        end = (place // BLOCK + 1) * BLOCK
        assert network.predictions()(before[:end].tolist())[place].argmax() == after[place]
    last = steps[-1]
    assert not last.masked.any()
    assert last.holes[1].stop < len(last.ids) - BLOCK
    assert max(map(max, network.active)) < len(last.ids) - 1  # what follows the last hole's block is not computed


def test_holes_of_a_block_causal_model_keep_their_size() -> None:
    model, _ = make_block_model(vocab_size=700)
    network = BlockNetwork(replace(model.config, expand_token_id=5))
    assert (
        len(DreamModel(network, model.tokenizer).fill(["abc", 9]).token_ids) == len(model.tokenizer.encode("abc")) + 9
    )


def test_a_fixed_ending_stands_where_it_was_put() -> None:
    model, network = make_block_model(vocab_size=700)
    found = model.generate(prompt_of(12), max_new_tokens=20, end_with="xyz")
    assert found.text.endswith("xyz")
    assert (len(found.token_ids), max(map(max, network.active))) == (20, 31)
    assert len(model.generate(prompt_of(12), end_with="xyz").token_ids) == DEFAULT_NEW_TOKENS


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "dual"}, "cache='dual': cache .*finished blocks anyway"),
        ({"cache": "prefix"}, "finished blocks anyway"),
        ({"cache": "auto"}, "finished blocks anyway"),
        ({"suffix_window": 4}, "suffix_window .*nothing after the block"),
        ({"block_length": 9}, "block_length must be at most 8"),
    ],
    ids=str,
)
def test_what_makes_no_sense_says_why(options: dict[str, Any], message: str) -> None:
    model, network = make_block_model()
    with pytest.raises(InvalidOption, match=message):
        model.stream(prompt_of(3), **options)
    with pytest.raises(InvalidOption, match=message):
        model.stream_fill(["a", 2], **options)
    with pytest.raises(InvalidOption, match=r"grow_from .*block by block anyway"):
        model.stream(prompt_of(3), grow_from=4)
    assert not network.active


def test_what_is_finished_is_kept_without_a_cache() -> None:
    model, network = make_block_model()
    model.generate(prompt_of(12), max_new_tokens=20, cache="none")
    assert max(map(len, network.active[1:])) <= 2 * BLOCK


def test_the_published_loop_is_that_of_the_sampler_or_follows_from_the_shift() -> None:
    facts: dict[str, Any] = {"vocab_size": 48}
    plain, shifted, full = (
        tiny_vocabulary(**facts, causal_block=block, shift=shift) for block, shift in ((32, 0), (32, 1), (None, 1))
    )
    read = GenerationConfig.from_checkpoint
    assert read({}, "f", plain) == GenerationConfig(algorithm="maskgit_plus", reveal="low_confidence:0.9")
    assert read({"temperature": 0.6}, "f", shifted) == GenerationConfig(
        algorithm="maskgit_plus", reveal="low_confidence:0.9", block_length=8, temperature=0.6
    )
    assert read({"sampler": "bd3lm"}, "f", plain) == GenerationConfig(algorithm="maskgit_plus", align="answer")
    assert read({}, "f", full) == read({"sampler": "bd3lm"}, "f", full) == GenerationConfig()
    assert read({}, "f", tiny_vocabulary(causal_block=4, shift=1)).block_length == 4
    with pytest.raises(InvalidConfig, match="sampler is 'best', expected one of block_diffusion, fast_dllm_v2, bd3lm"):
        read({"sampler": "best"}, "f", plain)


def test_exact_is_the_published_loop() -> None:
    for shift, sampler in ((0, "block_diffusion"), (0, "bd3lm"), (1, "fast_dllm_v2")):
        model, _ = make_block_model(shift)
        defaults = GenerationConfig.from_checkpoint({"sampler": sampler}, "f", model.config)
        model = DreamModel(model.network, model.tokenizer, defaults)
        config = GenerationConfig(**SAMPLERS[sampler], max_new_tokens=30)
        expected = model.generate(prompt_of(12), config).token_ids
        assert model.generate(prompt_of(12), exact=True, max_new_tokens=30).token_ids == expected


# --- between texts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0, 1])
def test_what_a_store_has_is_not_computed_again(shift: int) -> None:
    """A second prompt that goes on from the first text, or from its beginning; the same text as without a store."""
    model, network = make_block_model(shift)
    store = PrefixStore(BLOCK, 1 << 20)
    keeping = replace(model, prefixes=store)
    options: dict[str, Any] = {"max_new_tokens": 28, "threshold": 0.5}
    first = keeping.generate(prompt_of(19), **options)
    assert first.cached_tokens == 0
    assert store.usage.blocks == (19 + 28 - 1) // BLOCK
    whole = [*prompt_of(19), *first.token_ids]
    for prompt, found in (
        ([*whole, *prompt_of(20, 1)], 40),
        ([*whole[:30], *prompt_of(3, 2)], 24),
        (whole[:24], 24 if shift == 0 else 16),  # under a shift, its last row is asked for
        (prompt_of(18, 3), 0),
    ):
        network.active.clear()
        second = keeping.generate(prompt, **options)
        assert second.cached_tokens == found
        assert min(map(min, network.active)) == found
        assert second.token_ids == model.generate(prompt, **options).token_ids


def test_blocks_that_begin_elsewhere_are_not_found() -> None:
    model = replace(make_block_model()[0], prefixes=PrefixStore(BLOCK, 1 << 20))
    model.generate(prompt_of(19), max_new_tokens=20)
    assert model.generate(prompt_of(19), max_new_tokens=20, align="answer").cached_tokens == 0


# --- on a real graph -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DreamReasoner-8B", "Fast_dLLM_v2_1.5B", "bd3lm-Qwen2.5-Coder-0.5B"])
def test_a_real_network_says_what_full_passes_say(tmp_path: Path, name: str) -> None:
    """The steps of the published loop, which computes the whole canvas at each."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", **FAMILY[name])
    artifact = export(checkpoint, tmp_path / "artifact", Recipe.for_scheme("fp32", layers=2))
    network = OnnxNetwork(artifact, threads=1)
    config, mask = network.config, network.config.mask_token_id

    def logits_of(ids: list[int]) -> FloatArray:
        places = np.arange(len(ids))
        seen = (places // BLOCK <= places[:, None] // BLOCK)[None]
        rows = np.maximum(places - config.shift, 0)
        return network.forward(np.array([ids]), places[None], seen, rows, 0.0).fetch_logits()

    model = DreamModel(network, artifact.tokenizer(), GenerationConfig.from_checkpoint({}, "f", config))
    for length in (5, 16, 37):
        prompt = prompt_of(length)
        if config.shift:
            expected = fast_dllm_v2(logits_of, prompt, 3, BLOCK, BLOCK, mask, -1, 0.9)
        else:
            expected = dream_reasoner(logits_of, prompt, 3 * BLOCK - length % BLOCK, BLOCK, mask)
        new = len(expected[-1]) - length
        found = model.generate(prompt, exact=True, max_new_tokens=new, history=True)
        assert found.history is not None
        for one, published in zip(found.history, expected, strict=False):
            assert one.tolist() == (published + [mask] * new)[: len(one)]
        assert len(found.history) == len(expected) or len(one) < len(expected[-1])  # or it ended

"""Blocks and caches against a plain restatement, and on a real graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dream_edge
from dream_edge_runtime.generation.canvas import Canvas, MaskedSequence
from dream_edge_runtime.generation.config import CacheKind, GenerationConfig
from dream_edge_runtime.generation.hooks import Hooks
from dream_edge_runtime.generation.kv_cache import BlockCache, NoCache
from dream_edge_runtime.generation.schedule import BlockSchedule
from dream_edge_runtime.model import DreamModel
from support.loops import denoised
from support.networks import tiny_vocabulary
from support.remembering import RememberingNetwork, denoise_plainly

CONFIG = tiny_vocabulary()
LAYOUTS: dict[str, list[list[int] | int]] = {
    "after_a_prompt": [[3, 1, 4, 1, 5], 17],
    "all_masks": [13],
    "holes": [[3], 2, [1, 4], 5, [1], 1, [5, 9], 4],
    "a_fixed_end": [[3, 1], 12, [4, 1]],
    "a_long_prompt": [[*range(1, 31)], 9],
}
CACHES: tuple[CacheKind, ...] = ("none", "prefix", "dual", "auto")


def canvas_of(parts: list[list[int] | int]) -> Canvas:
    return Canvas([MaskedSequence.of(parts, CONFIG.mask_token_id)], CONFIG.mask_token_id, CONFIG.pad_token_id, shift=1)


def generator() -> list[Any]:
    return [np.random.default_rng(0)]


@pytest.mark.parametrize("suffix_window", [None, 0, 3])
@pytest.mark.parametrize("block_length", [1, 4, 100])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_step_is_that_of_a_plain_restatement(
    layout: str, cache: CacheKind, block_length: int, suffix_window: int | None
) -> None:
    for seed, steps in ((0, 20), (1, 7), (2, 1)):
        network, canvas = RememberingNetwork(CONFIG, seed), canvas_of(LAYOUTS[layout])
        options: dict[str, Any] = {"block_length": block_length, "cache": cache, "suffix_window": suffix_window}
        expected = denoise_plainly(network, canvas.ids[0], canvas.masked[0], steps, **options)
        config = GenerationConfig(algorithm="maskgit_plus", steps=steps, **options)
        found = [canvas.ids[0].copy() for _ in denoised(network, canvas, config, generator())]
        assert [step.tolist() for step in found] == [step.tolist() for step in expected]


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_remembered_is_never_guessed_from(layout: str, cache: CacheKind, threshold: float) -> None:
    """With a threshold and the cache "auto", a step that is sure of nothing is made again with everything computed."""
    for seed, steps in ((0, 20), (1, 20), (2, 5)):
        network, canvas = RememberingNetwork(CONFIG, seed), canvas_of(LAYOUTS[layout])
        options: dict[str, Any] = {"block_length": 4, "cache": cache, "threshold": threshold}
        expected = denoise_plainly(network, canvas.ids[0], canvas.masked[0], steps, **options)
        config = GenerationConfig(algorithm="maskgit_plus", steps=steps, **options)
        found = [canvas.ids[0].copy() for _ in denoised(network, canvas, config, generator())]
        assert [step.tolist() for step in found] == [step.tolist() for step in expected]


def test_passes_that_were_made_again_are_counted() -> None:
    network, canvas = RememberingNetwork(CONFIG), canvas_of([[*range(1, 41)], 8])
    config = GenerationConfig(algorithm="maskgit_plus", steps=8, block_length=8, cache="auto", threshold=1.0)
    made = [revealed.passes for (revealed,) in denoised(network, canvas, config, generator())]
    assert made == [1, *[2] * 6, 1]  # nothing is ever sure; the last step reveals what is left
    assert sum(made) == len(network.active)
    assert [len(active) == 48 for active in network.active] == [True, *[False, True] * 6, False]


@pytest.mark.parametrize(("prompt", "cached"), [(11, False), (12, True)])
def test_auto_computes_what_changed_where_that_is_at_most_a_quarter(prompt: int, cached: bool) -> None:
    """Of four masks one is revealed: it has changed, and the rows of the three others are asked about."""
    network, canvas = RememberingNetwork(CONFIG), canvas_of([[3] * prompt, 4])
    config = GenerationConfig(algorithm="left_to_right", threshold=0.9, steps=9, cache="auto")
    list(denoised(network, canvas, config, generator()))
    assert network.active[:2] == [
        [*range(prompt + 4)],
        [*range(prompt, prompt + 3)] if cached else [*range(prompt + 4)],
    ]


def test_the_last_mask_stays_in_sight_of_a_suffix_window() -> None:
    network, canvas = RememberingNetwork(CONFIG), canvas_of([[3, 1], 12])
    config = GenerationConfig(algorithm="maskgit_plus", steps=12, block_length=4, suffix_window=2)
    list(denoised(network, canvas, config, generator()))
    assert network.active[0] == [*range(8), 13]
    assert network.active[4] == [*range(12), 13]
    assert network.active[-1] == [*range(14)]


def test_a_cached_step_computes_the_block_and_the_position_before_it() -> None:
    network, canvas = RememberingNetwork(CONFIG), canvas_of([[3, 1, 4], 8])
    config = GenerationConfig(algorithm="maskgit_plus", steps=8, block_length=4, cache="dual")
    assert len(list(denoised(network, canvas, config, generator()))) == 8
    everything = list(range(11))
    assert network.active[0] == everything
    assert all(active == [2, 3, 4, 5, 6] for active in network.active[1:3])
    assert everything in network.active[3:5]
    assert network.active[-1] == [6, 7, 8, 9, 10]


def test_what_a_hook_rewrites_is_computed_again() -> None:
    """The prompt is changed in the middle of a block."""
    network, canvas = RememberingNetwork(CONFIG), canvas_of([[3, 1, 4], 6])

    def rewrite(step: int | None, ids: Any) -> Any:
        return np.where(np.arange(len(ids)) == 0, 7, ids) if step == 2 else ids

    config = GenerationConfig(algorithm="maskgit_plus", steps=6, cache="dual", block_length=6)
    list(denoised(network, canvas, config, generator(), Hooks(tokens=rewrite)))
    assert [len(active) for active in network.active] == [9, 7, 8, 8, 8]
    assert network.active[2] == [0, *range(2, 9)]


# --- on a real graph -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny() -> DreamModel:
    return dream_edge.load("tiny-fp32", threads=1)


@pytest.mark.parametrize("kind", ["prefix", "dual", "auto"])
def test_what_has_not_changed_is_remembered_exactly(tiny: DreamModel, kind: CacheKind) -> None:
    """Two steps over one canvas, the second from the cache: the same logits, to the rounding of fp32."""
    config = tiny.config
    prompt = tiny.tokenizer.encode("The farmer put the red box on the table.")
    canvas = Canvas(
        [MaskedSequence.of([prompt, 9, prompt], config.mask_token_id)],
        config.mask_token_id,
        config.pad_token_id,
        shift=1,
    )
    blocks = BlockSchedule(canvas.masked[0], 9, 1e-3, 4)
    block_step = blocks.next(canvas.masked[0])
    assert block_step is not None
    passes = BlockCache(tiny.network, kind)
    asked = {0: block_step.positions}
    full = NoCache(tiny.network).compute(canvas, {0: block_step}, asked, 0.0, None)[0].fetch_logits()
    first, second = (passes.compute(canvas, {0: block_step}, asked, 0.0, None)[0].fetch_logits() for _ in range(2))
    assert np.abs(first - full).max() <= 1e-5 * np.abs(full).max()
    assert np.abs(second - full).max() <= 1e-5 * np.abs(full).max()


@pytest.mark.parametrize("cache", ["prefix", "dual", "auto"])
def test_batches_and_holes_are_filled_with_a_cache(tiny: DreamModel, cache: CacheKind) -> None:
    """Padding changes nothing: each prompt gets in the batch what it gets alone."""
    prompts = ["Input:\n1000\n0002\n4003\n0000\nOutput:\n", "Hi", "Input: 15,44,79,50\nOutput: "]
    options: dict[str, Any] = {"max_new_tokens": 24, "algorithm": "entropy", "cache": cache, "block_length": 8}
    together = tiny.generate_batch(prompts, raw=True, **options)
    assert [each.text for each in together] == [tiny.generate(each, raw=True, **options).text for each in prompts]
    filled = tiny.fill("The [[2]] put the [[1]] on the [[3]].", algorithm="entropy", cache=cache, block_length=2)
    assert tiny.config.mask_token_id not in filled.token_ids
    assert len(filled.holes) == 3


# --- the end of a text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"threshold": 0.9}, {"block_length": 8}, {"cache": "dual"}], ids=str)
def test_stopping_at_the_end_changes_no_text(tiny: DreamModel, options: dict[str, Any]) -> None:
    for question in ("Hello!", "What is the capital of France?", "How many legs has a spider?"):
        common: dict[str, Any] = {"max_new_tokens": 48, "algorithm": "entropy", **options}
        whole = tiny.generate(question, **common)
        stopped = tiny.generate(question, stop_at_end=True, **common)
        assert stopped.text == whole.text
        assert stopped.passes <= whole.passes
        assert stopped.finish_reason == whole.finish_reason


def test_stopping_at_the_end_saves_the_passes_behind_it(tiny: DreamModel) -> None:
    options: dict[str, Any] = {"max_new_tokens": 64, "algorithm": "left_to_right"}
    assert tiny.generate("Hello!", stop_at_end=True, **options).passes < 32
    assert tiny.generate("Hello!", **options).passes > 60


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"cache": "auto"}, {"suffix_window": 0}], ids=str)
def test_a_cache_and_a_suffix_window_bring_blocks_with_them(options: dict[str, Any]) -> None:
    assert GenerationConfig(**options).block_length == 32
    assert GenerationConfig(cache="dual").block_length == 32
    assert GenerationConfig(cache="dual", block_length=7).block_length == 7
    assert GenerationConfig().block_length is None

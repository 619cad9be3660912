"""What a call does that leaves the schedule open, and how it asks for the official loop."""

from __future__ import annotations

from typing import Any

import pytest

import dream_edge
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.generation.config import PARALLEL, GenerationConfig
from dream_edge_runtime.generation.options import PRESETS, SAVING, resolve

FAST = PRESETS["fast"].settings
CHECKPOINT = GenerationConfig(algorithm="entropy", temperature=0.2, steps=512)


def settled(config: GenerationConfig | None = None, **options: Any) -> GenerationConfig:
    return resolve(CHECKPOINT, config, options)[0]


def test_nothing_named_is_fast_with_the_checkpoints_temperature() -> None:
    assert settled() == CHECKPOINT.replace(**FAST)
    assert settled(max_new_tokens=7, temperature=0.5, seed=1) == CHECKPOINT.replace(
        **FAST, max_new_tokens=7, temperature=0.5, seed=1
    )


@pytest.mark.parametrize(
    "named", [{"steps": 9}, {"algorithm": "origin"}, {"algorithm_temperature": 0.1}, {"eps": 0.01}], ids=str
)
def test_naming_the_schedule_is_the_official_one(named: dict[str, Any]) -> None:
    assert settled(**named) == CHECKPOINT.replace(**named)


def test_a_threshold_makes_steps_and_order_parts_of_the_fast_preset() -> None:
    named: dict[str, Any] = {"threshold": 0.5, "steps": 9, "algorithm": "topk_margin"}
    assert settled(**named) == CHECKPOINT.replace(**{**FAST, **named})


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "exact"])
def test_a_preset_of_a_block_causal_model_leaves_out_what_saves_in_full_attention(name: str) -> None:
    model = dream_edge.load("tiny-blocks", threads=1)
    assert model.generate("What sound does the dog make?", preset=name).text == "A dog barks."
    found = resolve(GenerationConfig(), None, {"preset": name}, block_causal=True)[0]
    assert all(getattr(found, each) == getattr(GenerationConfig(), each) for each in SAVING)
    asked = resolve(GenerationConfig(), None, {"preset": name, "block_length": 4}, block_causal=True)[0]
    assert asked.block_length == 4


def test_exact_is_what_the_checkpoint_says() -> None:
    assert settled(exact=True) == CHECKPOINT
    assert settled(exact=True, steps=9) == CHECKPOINT.replace(steps=9)


@pytest.mark.parametrize("name", [*PARALLEL, *SAVING])
def test_exact_contradicts_whatever_saves(name: str) -> None:
    named: dict[str, Any] = {name: {"cache": "dual", "reveal": "factor"}.get(name, 1)}
    with pytest.raises(InvalidOption, match=f"{name}.*does not go with exact"):
        settled(exact=True, **named)


def test_presets_go_by_name() -> None:
    assert settled(preset="exact") == settled(exact=True)
    for name in ("careful", "fast", "streaming", "turbo"):
        assert settled(preset=name, steps=9) == CHECKPOINT.replace(**PRESETS[name].settings, steps=9)
    for named in ({"preset": "slow"}, {"preset": "fast", "exact": True}, {"preset": "exact", "threshold": 0.5}):
        with pytest.raises(InvalidOption, match=r"fast|exact"):
            settled(**named)
    with pytest.raises(InvalidOption, match="goes without a config"):
        settled(GenerationConfig(), preset="fast")


def test_a_configuration_is_taken_at_its_word() -> None:
    config = GenerationConfig(max_new_tokens=3)
    assert settled(config) == config
    assert settled(config, seed=4) == config.replace(seed=4)
    with pytest.raises(InvalidOption, match="goes without a config"):
        settled(config, exact=True)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_exact_is_true_or_false(value: Any) -> None:
    with pytest.raises(InvalidOption, match="exact"):
        settled(exact=value)


def test_the_preset_needs_a_third_of_the_passes() -> None:
    model = dream_edge.load("tiny", threads=1)
    fast, exact = (model.generate("What sound does the dog make?", exact=each) for each in (False, True))
    assert fast.text == exact.text
    assert 3 * fast.passes <= exact.passes

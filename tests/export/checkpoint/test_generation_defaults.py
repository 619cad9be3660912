"""What generation_config.json may hold: what exports always loads, and says what the file means."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dream_edge
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.checkpoint.config import read_generation_defaults
from dream_edge_export.export import export
from dream_edge_export.reference.networks import reference_model
from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.errors import UnreadableFile
from dream_edge_runtime.files.json import canonical_json, parse_canonical
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.generation.config import GenerationConfig
from support.checkpoints import write_checkpoint
from support.vocabulary import special_ids

INT8 = Recipe.for_scheme("int8")
FILE = "generation_config.json"

MEANT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"top_k": -1}, {"top_k": None}),
    ({"top_k": 0}, {"top_k": None}),
    ({"top_k": 50.0}, {"top_k": 50}),
    ({"steps": 256.0}, {"steps": 256}),
    ({"top_p": 1.0}, {"top_p": 1.0}),
    ({"top_p": 1.5}, {"top_p": None}),
    ({"temperature": 1e-6}, {"temperature": 0.0}),
    ({"temperature": 1}, {"temperature": 1.0}),
    ({"alg_temp": 1e-9}, {"algorithm_temperature": 0.0}),
    ({"temperature": None, "top_k": None}, {"temperature": 0.0, "top_k": None}),
]
NONE: list[dict[str, Any]] = [
    {"alg": "confidence_threshold"},
    {"alg": 3},
    {"eps": 0},
    {"steps": "all"},
    {"steps": 0},
    {"steps": 2.5},
    {"temperature": -1},
    {"temperature": True},
    {"temperature": "0.2"},
    {"top_p": 0},
    {"top_k": [5]},
    {"eos_penalty": -1},
]


@pytest.mark.parametrize(("stated", "meant"), MEANT)
def test_other_ways_to_say_it_mean_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stated: dict[str, Any], meant: dict[str, Any]
) -> None:
    (tmp_path / FILE).write_text(json.dumps(stated), "utf-8")
    config = GenerationConfig.from_checkpoint(read_generation_defaults(tmp_path))
    assert {name: getattr(config, name) for name in meant} == meant
    assert caplog.text == ""


@pytest.mark.parametrize("stated", NONE, ids=str)
def test_value_without_a_meaning_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stated: dict[str, Any]
) -> None:
    (tmp_path / FILE).write_text(json.dumps({**stated, "max_length": 20}), "utf-8")
    with caplog.at_level(logging.WARNING):
        assert read_generation_defaults(tmp_path) == {"max_length": 20}
    assert FILE in caplog.text
    assert "left out" in caplog.text


@pytest.mark.parametrize("text", ["[1]", "{", '{"steps": NaN}', '{"a": 1, "a": 2}'])
def test_file_that_is_no_json_object_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, "utf-8")
    with pytest.raises(UnreadableFile, match=FILE):
        read_generation_defaults(tmp_path)


KEYS = st.sampled_from(
    "alg alg_temp eos_penalty eps steps temperature top_p top_k max_length eos_token_id do_sample cache_config".split()
)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text() | st.sampled_from(["origin", "entropy", "confidence_threshold"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@settings(max_examples=100)
@given(st.dictionaries(KEYS | st.text(), VALUES))
@example({"x": 1 << 70})
@example({"\ud800": "\ud800"})
@example({"x": json.loads("[" * 20 + "]" * 20)})
@example({"x": "y" * 100_000, "steps": 7})
@example({f"x{index}": index for index in range(5000)})
@example({"top_k": 10**30})
def test_whatever_is_stated_a_manifest_holds_and_a_runtime_takes(
    tmp_path_factory: pytest.TempPathFactory, stated: dict[str, Any]
) -> None:
    directory = tmp_path_factory.mktemp("checkpoint")
    (directory / FILE).write_text(json.dumps(stated), "utf-8")
    kept = read_generation_defaults(directory)
    GenerationConfig.from_checkpoint(kept)
    held = canonical_json({"generation": kept})
    assert parse_canonical(held) == {"generation": kept}
    assert len(held) < 40_000
    assert kept.items() <= stated.items()


@pytest.mark.parametrize("stated", ["ddpm", [], 3])
def test_sampler_that_is_none_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stated: object
) -> None:
    (tmp_path / FILE).write_text(json.dumps({"sampler": stated}), "utf-8")
    with caplog.at_level(logging.WARNING):
        assert read_generation_defaults(tmp_path) == {}
    assert "there is no sampler" in caplog.text


def test_odd_file_is_exported_to_what_loads(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", num_hidden_layers=1)
    odd = {name: value for stated in [*NONE, *(stated for stated, _ in MEANT)] for name, value in stated.items()}
    for stated in (odd, {"x": 1 << 70, "\ud800": "\ud800", "y": [[[[[[[[[[]]]]]]]]]], "alg": "best", "steps": 9}):
        (tmp_path / "checkpoint" / FILE).write_text(json.dumps(stated), "utf-8")
        export(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "out", INT8, force=True)
        dream_edge.verify(tmp_path / "out")
        model = dream_edge.load(tmp_path / "out")
        assert model.defaults.algorithm == "origin"
        assert model.generate("a", raw=True, max_new_tokens=2, steps=1).new_tokens == 2
    assert model.defaults.steps == 9


@pytest.mark.parametrize("where", ["config.json", FILE])
def test_text_ends_at_each_of_several_ends(tmp_path: Path, where: str) -> None:
    directory = tmp_path / "checkpoint"
    write_checkpoint(directory, num_hidden_layers=1)
    end, other = special_ids()["eos_token_id"], 7
    raw = json.loads((directory / "config.json").read_text("utf-8"))
    if where == "config.json":
        raw["eos_token_id"] = [other, end]
    else:
        del raw["eos_token_id"]
        (directory / FILE).write_text(json.dumps({"eos_token_id": [other, end]}), "utf-8")
    (directory / "config.json").write_text(json.dumps(raw), "utf-8")
    checkpoint = Checkpoint.open(directory)
    assert checkpoint.config.eos_token_id == end  # which pads, too
    export(checkpoint, tmp_path / "out", INT8)
    for model in (dream_edge.load(tmp_path / "out"), reference_model(checkpoint)):
        assert model.ends == {other, end}
        for token in (other, end, 8):
            hook = partial(settle_last, np.array([token] * 6))
            written = model.generate("ab", raw=True, max_new_tokens=6, token_hook=hook)
            assert bool(written.text) == (token == 8)


def settle_last(tokens: IntArray, _: int | None, ids: IntArray) -> IntArray:
    return np.append(ids[: -len(tokens)], tokens)

"""Every option is checked, and every keyword exists once."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream_edge_runtime.constraint.rule import RULES
from dream_edge_runtime.errors import DreamEdgeError, InvalidConfig, InvalidOption, UnknownOption
from dream_edge_runtime.generation.config import ALGORITHMS, FIELDS, GenerationConfig
from dream_edge_runtime.generation.options import RUNNING, Options
from dream_edge_runtime.generation.reveal.parallel import ConfidenceFactor

NOT_A_NUMBER = (True, "1", [1], float("nan"), float("inf"), -1, 10**400)
BAD: dict[str, tuple[Any, ...]] = {
    "max_new_tokens": (*NOT_A_NUMBER, 0, 1.0),
    "steps": (*NOT_A_NUMBER, 0, 2.5),
    "algorithm": ("best", "", None, 3, ["origin"]),
    "temperature": (*NOT_A_NUMBER, 1e-30, None),
    "top_p": (*NOT_A_NUMBER, 0, 1.0001),
    "top_k": (True, "1", [1], float("nan"), -1, 0, 1.5),
    "algorithm_temperature": (*NOT_A_NUMBER, 1e-30),
    "eps": (*NOT_A_NUMBER, 0, 1, None),
    "eos_penalty": (*NOT_A_NUMBER, None),
    "seed": (True, "1", [1], float("nan"), -1, 1.5),
    "threshold": (*NOT_A_NUMBER, 0, 1.0001),
    "reveal": (3, "", "klass", "factor:x", "factor:0", "factor:nan", "entropy_bound:-1", "threshold:1.1"),
    "block_length": (*NOT_A_NUMBER, 0, 2.5),
    "align": ("both", "", None, 3, ["prompt"]),
    "cache": ("both", "", None, 3, ["dual"]),
    "suffix_window": (*NOT_A_NUMBER, 2.5),
    "grow_from": (*NOT_A_NUMBER, 0, 2.5),
    "max_hole_tokens": (*NOT_A_NUMBER, 2.5, None),
    "thinking": (0, "yes", np.True_),
    "stop_at_end": (None, 0, "yes", np.True_),
    "stop": (None, 3, ["a", ""], "", [3], {"a"}),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_bad_values_name_their_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        GenerationConfig(**{field: value})
    assert caught.value.name == field


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 10**5000), ("seed", -(10**5000)), ("algorithm", "x" * 100_000)],
    ids=["steps", "seed", "name"],
)
def test_a_huge_value_is_named_in_short(field: str, value: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        GenerationConfig(**{field: value})
    assert str(caught.value).startswith(f"{field}=")
    assert len(str(caught.value)) < 400


def test_no_schedule_takes_seconds_of_empty_steps() -> None:
    with pytest.raises(InvalidOption, match="1 to 131072"):
        GenerationConfig(steps=1 << 20)


def test_unknown_algorithm_lists_the_known_ones() -> None:
    with pytest.raises(InvalidOption, match=", ".join(ALGORITHMS)):
        GenerationConfig(algorithm="maskgit")


def test_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(UnknownOption, match="max_new_tokens"):
        GenerationConfig().replace(max_tokens=3)


def test_every_bad_field_is_tested_and_every_keyword_declared() -> None:
    assert set(BAD) == set(FIELDS) == {field.name for field in fields(GenerationConfig)}
    assert set(Options.__annotations__) == {*FIELDS, *RULES, "preset", "exact", *RUNNING}


def test_numbers_of_numpy_are_stored_as_plain_ones() -> None:
    config = GenerationConfig(max_new_tokens=np.int64(4), temperature=np.float32(0.5), stop=["a"], seed=np.uint8(3))  # type: ignore[arg-type]
    assert config == GenerationConfig(max_new_tokens=4, temperature=0.5, stop=("a",), seed=3)
    assert type(config.max_new_tokens) is type(config.seed) is int
    assert type(config.temperature) is float
    assert hash(config) == hash(config.replace())


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING))
def test_anything_is_a_valid_configuration_or_a_named_error(values: dict[str, Any]) -> None:
    try:
        config = GenerationConfig(**values)
    except DreamEdgeError as error:
        message = str(error)
    else:
        message = ""
        assert config.replace() == config
    assert "\n" not in message


def test_two_rules_for_how_much_is_revealed_contradict_each_other() -> None:
    with pytest.raises(InvalidOption, match=r"reveal='factor:1': reveal contradicts threshold=0.5"):
        GenerationConfig(threshold=0.5, reveal="factor")


def test_a_rule_named_later_takes_the_place_of_the_one_before() -> None:
    config = GenerationConfig(threshold=0.5).replace(reveal="factor:0.25")
    assert (config.threshold, config.parallel) == (None, (ConfidenceFactor, 0.25))
    assert config.replace(steps=3).parallel == (ConfidenceFactor, 0.25)
    assert config.replace(threshold=0.5).reveal is None
    assert config.replace(reveal=None).parallel is None


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("factor", "factor:1"),
        ("threshold:0.9999999", "threshold:0.9999999"),
        ("factor:0.50", "factor:0.5"),
        ("entropy_bound:1e-3", "entropy_bound:0.001"),
    ],
)
def test_a_strategy_is_stored_with_its_value(given: str, stored: str) -> None:
    assert GenerationConfig(reveal=given).reveal == stored


def test_checkpoint_with_impossible_defaults_is_named() -> None:
    with pytest.raises(InvalidConfig, match=r"somewhere.json: algorithm='best'"):
        GenerationConfig.from_checkpoint({"alg": "best"}, "somewhere.json")

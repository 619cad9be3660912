"""Every option is checked, and every keyword exists once."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream_edge_runtime.errors import DreamEdgeError, InvalidConfig, InvalidOption, UnknownOption
from dream_edge_runtime.generation.config import ALGORITHMS, FIELDS, PARALLEL, GenerationConfig
from dream_edge_runtime.generation.options import EXACT, RUNNING, Options

NOT_A_NUMBER = (True, "1", [1], float("nan"), float("inf"), -1, 10**400)
BAD: dict[str, tuple[Any, ...]] = {
    "max_new_tokens": (*NOT_A_NUMBER, 0, 1.0, None),
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
    "factor": (*NOT_A_NUMBER, 0),
    "entropy_bound": NOT_A_NUMBER,
    "sched": (*NOT_A_NUMBER, 0),
    "local_leap": (*NOT_A_NUMBER, 0, 0.91),
    "klass": (*NOT_A_NUMBER, 0),
    "block_length": (*NOT_A_NUMBER, 0, 2.5),
    "cache": ("both", "", None, 3, ["dual"]),
    "suffix_window": (*NOT_A_NUMBER, 2.5),
    "grow_from": (*NOT_A_NUMBER, 0, 2.5),
    "max_hole_tokens": (*NOT_A_NUMBER, 2.5, None),
    "stop_at_end": (None, 0, "yes", np.True_),
    "stop": (None, 3, ["a", ""], "", [3], {"a"}),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_bad_values_name_their_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        GenerationConfig(**{field: value})
    assert caught.value.name == field


def test_unknown_algorithm_lists_the_known_ones() -> None:
    with pytest.raises(InvalidOption, match=", ".join(ALGORITHMS)):
        GenerationConfig(algorithm="maskgit")


def test_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(UnknownOption, match="max_new_tokens"):
        GenerationConfig().replace(max_tokens=3)


def test_every_bad_field_is_tested_and_every_keyword_declared() -> None:
    assert set(BAD) == set(FIELDS) == {field.name for field in fields(GenerationConfig)}
    assert set(Options.__annotations__) == {*FIELDS, EXACT, *RUNNING}


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


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(PARALLEL, 2)))
def test_two_rules_for_how_much_is_revealed_contradict_each_other(first: str, second: str) -> None:
    with pytest.raises(InvalidOption, match=f"{second}=.*contradicts {first}"):
        GenerationConfig(**{first: 0.5, second: 0.5})  # type: ignore[arg-type]


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(PARALLEL, 2)))
def test_a_rule_named_later_takes_the_place_of_the_one_before(first: str, second: str) -> None:
    config = GenerationConfig(**{first: 0.5}).replace(**{second: 0.25})  # type: ignore[arg-type]
    assert (config.parallel, getattr(config, first)) == (second, None)
    assert config.replace(steps=3).parallel == second
    assert config.replace(**{second: None}).parallel is None


def test_checkpoint_with_impossible_defaults_is_named() -> None:
    with pytest.raises(InvalidConfig, match=r"somewhere.json: algorithm='best'"):
        GenerationConfig.from_checkpoint({"alg": "best"}, "somewhere.json")

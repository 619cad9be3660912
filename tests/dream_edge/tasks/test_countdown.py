"""Countdown: the checker against equations worked by hand, the generator against the checker."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream_edge.tasks import countdown

PROMPT = "Input: 15,44,79,50\nOutput: "


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (PROMPT, "44-15=29,79-29=50"),
        ("Input: 15,44,79,50\nOutput:", " 44-15=29,79-29=50"),
        (PROMPT, "44-15=29, 79 - 29 = 50"),
        (PROMPT, "44-15=29,79-29=50\n\nInput: 1,2"),
        (PROMPT, "79-44=35,35+15=50"),
        (PROMPT, "79+15=94,94-44=50"),
        ("Input: 6,12,18,16\nOutput: ", "12/6=2,18-2=16"),
        ("Input: 4,4,3,28\nOutput: ", "3+4=7,4*7=28"),
        ("Input: 3,3,3,12\nOutput: ", "3*3=9,9+3=12"),
    ],
)
def test_two_right_equations_solve(prompt: str, text: str) -> None:
    assert countdown.solves(prompt, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "44-15=29",
        "44-15=29,79-29=51",  # wrong sum
        "44-15=28,79-28=51",
        "79-44=35,35+44=79",  # a number twice, the wrong target
        "50-15=35,15+35=50",  # a number that is not given
        "44+15=59,79-29=50",  # the first result unused
        "15-44=-29,79+-29=50",  # a negative result
        "44-15=29,79-29=50,",
        "044-15=29,79-29=50",
        "44-15=29,29+79=108",  # misses the target
        "44-15=29\n79-29=50",
    ],
)
def test_anything_else_does_not_solve(text: str) -> None:
    assert not countdown.solves(PROMPT, text)


def test_division_must_be_exact() -> None:
    assert not countdown.solves("Input: 7,2,5,8\nOutput: ", "7/2=3,5+3=8")


def test_zero_is_not_a_result() -> None:
    assert not countdown.solves("Input: 7,7,5,5\nOutput: ", "7-7=0,5+0=5")


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), held_out=st.booleans(), largest=st.sampled_from([10, 30, 99]))
def test_every_generated_answer_solves_its_case(seed: int, held_out: bool, largest: int) -> None:
    cases = countdown.generate(np.random.default_rng(seed), 25, held_out=held_out, largest=largest)
    assert len(cases) == 25
    for case in cases:
        assert countdown.solves(case.prompt, case.answer)
        *numbers, target = (int(number) for number in re.findall(r"\d+", case.prompt))
        assert min(numbers) >= 1
        assert max(numbers) <= largest
        assert 1 <= target <= 99


def test_cases_with_the_same_numbers_and_target_have_the_same_answer() -> None:
    answers: dict[tuple[int, ...], str] = {}
    for case in countdown.generate(np.random.default_rng(1), 4000, largest=6):
        *numbers, target = (int(number) for number in re.findall(r"\d+", case.prompt))
        assert answers.setdefault((*sorted(numbers), target), case.answer) == case.answer
    assert answers[1, 2, 3, 6] == "3+2=5,5+1=6"
    assert answers[2, 3, 4, 3] == "4+2=6,6-3=3"


def test_the_same_seed_gives_the_same_cases() -> None:
    first, again, other = (countdown.generate(np.random.default_rng(seed), 30) for seed in (7, 7, 8))
    assert first == again != other


def test_held_out_cases_are_never_drawn_for_training() -> None:
    def asked(held_out: bool, count: int) -> set[tuple[int, ...]]:
        rng = np.random.default_rng(3)
        cases = countdown.generate(rng, count, held_out=held_out, largest=10)
        parsed = ([int(number) for number in re.findall(r"\d+", case.prompt)] for case in cases)
        return {(*sorted(numbers), target) for *numbers, target in parsed}

    assert not asked(True, 300) & asked(False, 5000)

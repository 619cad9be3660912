"""What a task is: cases with a right answer, a way to ask them, and a checker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

HELD_OUT_SHARE = 16
"""One case in this many is held out: the tiny Dream was not trained on it, and no example shows it."""

SHOTS = 8
"""Examples before a question, as many as in Dream's own planning evaluation."""

_FIBONACCI = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Case:
    """One question as the model reads it, up to where the answer begins, and an answer (not necessarily the only
    one)."""

    prompt: str
    answer: str


class Generator(Protocol):
    """Draws `count` cases, either all held out or none."""

    def __call__(self, rng: np.random.Generator, count: int, *, held_out: bool = False) -> list[Case]: ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """A kind of puzzle.

    Attributes:
        instruction: one sentence, said before the examples; or several.
        new_tokens: room for an answer; as many steps are taken.
        seed: of the cases that every model is asked.
        generate: draws cases.
        solves: whether a text that a model wrote after a prompt is a right answer to its last question.
        shots: examples before a question unless the user says otherwise.
        find_holes: what of a case's answer is to be found, as slices of the text, where the rest is a form that can be
            given; None = it has no such form.
    """

    name: str
    instruction: str
    new_tokens: int
    seed: int
    generate: Generator
    solves: Callable[[str, str], bool]
    shots: int = SHOTS
    find_holes: Callable[[Case], list[slice]] | None = None

    def draw_examples(self, count: int) -> list[Case]:
        """Solved cases to show before a question: always the same, none of them held out."""
        return self.generate(np.random.default_rng(0), count) if count else []

    def write_prompt(self, case: Case, examples: Sequence[Case] = ()) -> str:
        """The instruction, the examples and the question; without examples the question alone."""
        if not examples:
            return case.prompt
        shown = (f"{example.prompt}{example.answer}" for example in examples)
        return "\n\n".join([self.instruction, *shown, case.prompt])


def draw_one_by_one(draw: Callable[[np.random.Generator, int], Case]) -> Generator:
    """A generator whose first cases are the same however many are drawn; `draw` is given the number of each."""

    def generate(rng: np.random.Generator, count: int, *, held_out: bool = False) -> list[Case]:
        cases: list[Case] = []
        while len(cases) < count:
            case = draw(rng, len(cases))
            if is_held_out(np.array([crc32(case.prompt.encode())]))[0] == held_out:
                cases.append(case)
        return cases

    return generate


def is_held_out(codes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each case, numbered by a code of its own, is held out [cases].

    It is a property of the case (a hash), not of the order in which cases are drawn: a program that trains and a
    program that scores agree without sharing any state.
    """
    mixed = codes.astype(np.uint64) * _FIBONACCI
    mixed ^= mixed >> np.uint64(29)
    mixed *= _FIBONACCI
    held_out: NDArray[np.bool_] = (mixed >> np.uint64(40)) % np.uint64(HELD_OUT_SHARE) == 0
    return held_out

"""Operations on a waiting line: a list of people to copy, sort, reverse, shuffle, or change at one place.

After the ten tasks of this kind in ParallelBench (arXiv 2510.04767, ICLR 2026), with names, wording and checkers of our
own: three to six people as a list in quotes. Copying leaves a network nothing to decide, so that all tokens can be
revealed at once; where any order or any place is right, tokens that are revealed together can contradict each other.
Here positions count from 1; there from 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .task import Case, Task, draw_one_by_one

FEWEST, MOST = 3, 6

# each is one token of Dream's vocabulary where it stands, so that all holes of a form have the same size
_FIRST = (
    "Alice Amy Andrew Anna Ben Brian Carl Charles Daniel David Emily Emma Eric Frank George Grace Henry Jack James "
    "Jane John Karen Kate Kevin Laura Leo Lisa Luke Maria Martin Mary Paul Peter Rachel Richard Sarah Simon Susan "
    "Thomas Tom"
).split()
_LAST = (
    "Adams Baker Carter Dixon Evans Foster Grant Hughes Hunter Jones Kelly Lewis Mason Nolan Owens Parker Quinn Reed "
    "Stone Turner Allen Brooks Cooper Davis Ellis Fisher Green Hall Jordan King Lane Miller Norton Palmer Rogers Scott "
    "Taylor Walker Young Price"
).split()


@dataclass(frozen=True)
class _Question:
    """A line, the person who comes into it, and a place from 0; what the operation does not need is nothing."""

    line: list[str]
    new: str = ""
    place: int = 0

    @classmethod
    def read(cls, prompt: str) -> _Question:
        fields = dict(row.split(": ", 1) for row in prompt.splitlines() if ": " in row)
        return cls(json.loads(fields["Line"]), fields.get("New", ""), int(fields.get("Position", 1)) - 1)

    def with_new_at(self, place: int) -> list[str]:
        return [*self.line[:place], self.new, *self.line[place:]]

    def without(self, place: int) -> list[str]:
        return [*self.line[:place], *self.line[place + 1 :]]

    def replaced_at(self, place: int) -> list[str]:
        return [*self.line[:place], self.new, *self.line[place + 1 :]]


@dataclass(frozen=True, kw_only=True)
class _Operation:
    """What is to be done, an answer (`place` was drawn), and what else is right."""

    instruction: str
    do: Callable[[_Question], list[str]]
    is_right: Callable[[_Question, list[str]], bool] | None = None
    """None = what `do` gives is the only answer."""
    has_new: bool = False
    has_place: bool = False


def _shuffled(question: _Question) -> list[str]:
    return question.line[question.place + 1 :] + question.line[: question.place + 1][::-1]


OPERATIONS = {
    "copy": _Operation(instruction="Copy the waiting line as it is.", do=lambda asked: asked.line),
    "sort": _Operation(
        instruction="Sort the people in the waiting line by their names, from A to Z.",
        do=lambda asked: sorted(asked.line),
    ),
    "reverse": _Operation(
        instruction="Reverse the waiting line: the last person becomes the first.", do=lambda asked: asked.line[::-1]
    ),
    "shuffle": _Operation(
        instruction="Shuffle the waiting line: keep everybody, and put them in any order but the one they are in.",
        do=_shuffled,
        is_right=lambda asked, found: sorted(found) == sorted(asked.line) and found != asked.line,
    ),
    "insert-index": _Operation(
        instruction="Let the new person into the waiting line, at the named position. The first person is at 1.",
        do=lambda asked: asked.with_new_at(asked.place),
        has_new=True,
        has_place=True,
    ),
    "insert-random": _Operation(
        instruction="Let the new person into the waiting line, at a position of your choice.",
        do=lambda asked: asked.with_new_at(asked.place),
        is_right=lambda asked, found: found in [asked.with_new_at(at) for at in range(len(asked.line) + 1)],
        has_new=True,
    ),
    "remove-index": _Operation(
        instruction="The person at the named position leaves the waiting line. The first person is at 1.",
        do=lambda asked: asked.without(asked.place),
        has_place=True,
    ),
    "remove-random": _Operation(
        instruction="One person, of your choice, leaves the waiting line.",
        do=lambda asked: asked.without(asked.place),
        is_right=lambda asked, found: found in [asked.without(at) for at in range(len(asked.line))],
    ),
    "replace-index": _Operation(
        instruction="The new person takes the place of the one at the named position. The first person is at 1.",
        do=lambda asked: asked.replaced_at(asked.place),
        has_new=True,
        has_place=True,
    ),
    "replace-random": _Operation(
        instruction="The new person takes the place of somebody in the waiting line, of your choice.",
        do=lambda asked: asked.replaced_at(asked.place),
        is_right=lambda asked, found: found in [asked.replaced_at(at) for at in range(len(asked.line))],
        has_new=True,
    ),
}


def read_list(text: str) -> list[str] | None:
    """The first list in brackets in `text`: what its commas separate, without quotes and spaces; None without one."""
    match = re.search(r"\[([^\[\]]*)\]", text)
    return None if match is None else [entry.strip(" \n\"'") for entry in match[1].split(",")]


def _find_names(case: Case) -> list[slice]:
    return [slice(*match.span(1)) for match in re.finditer(r'"([^"]*)"', case.answer)]


def _make_task(name: str, operation: _Operation, seed: int) -> Task:
    def draw(rng: np.random.Generator, number: int) -> Case:
        length = FEWEST + number % (MOST - FEWEST + 1)
        first, last = (rng.choice(names, length + 1, replace=False).tolist() for names in (_FIRST, _LAST))
        *line, new = (" ".join(pair) for pair in zip(first, last, strict=True))
        question = _Question(line, new, int(rng.integers(length)))
        rows = [f"Line: {json.dumps(line)}"]
        rows += [f"New: {new}"] if operation.has_new else []
        rows += [f"Position: {question.place + 1}"] if operation.has_place else []
        return Case("\n".join([*rows, "Answer:\n"]), json.dumps(operation.do(question)))

    def solves(prompt: str, text: str) -> bool:
        question, found = _Question.read(prompt), read_list(text)
        if found is None or operation.is_right is None:
            return found == operation.do(question)
        return operation.is_right(question, found)

    return Task(
        name=f"line/{name}",
        instruction=f"{operation.instruction} Write the whole list in the same form, and nothing else.",
        new_tokens=32,
        seed=seed,
        generate=draw_one_by_one(draw),
        solves=solves,
        shots=1,
        find_holes=_find_names,
    )


WAITING_LINE = tuple(_make_task(name, each, 100 + seed) for seed, (name, each) in enumerate(OPERATIONS.items()))

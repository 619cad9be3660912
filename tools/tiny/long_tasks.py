"""Three tasks in the words of the tiny Dream's world with answers of 100 to 150 tokens, whose lines need one another.

Chains: running totals, each worked out from the one before. Grids: six Sudokus in one answer. Stories: seven sentences
to complete, in which no verb, no adjective and no thing is told twice.

A line of an answer is as long as that of its prompt, so that a tiny network soon learns where to look.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dream_edge.tasks import sudoku
from dream_edge.tasks.task import Case, Task
from tools.tiny import lexicon
from tools.tiny.facts import MONTHS
from tools.tiny.holdout import text_held_out

NEW_TOKENS = 256
STEPS, LARGEST_TOTAL = 48, 9
GRIDS = 6
SENTENCES = len(lexicon.TRANSITIVE)
VERBS = tuple(verb.past for verb in lexicon.TRANSITIVE)
ADJECTIVES = lexicon.SHAPES + lexicon.COLORS
THINGS = tuple(noun.singular for noun in lexicon.THINGS)
ASKED = "In {} {} does some what it near the {}, because who liked it."
TOLD = "In {} {} {} {} {} {} near the {}, because {} liked it."

_ASKED, _TOLD = (re.compile(re.escape(line).replace(r"\{\}", r"(\w+)")) for line in (ASKED, TOLD))


def _prompt(given: str) -> str:
    return f"Input:\n{given}\nOutput:\n"


def given(prompt: str) -> str:
    """What a prompt asks about."""
    return prompt.split("Input:\n")[-1].split("\nOutput:")[0]


@dataclass(frozen=True)
class _Generator:
    """Draws cases by `draw`; what is given says whether a case is held out."""

    draw: Callable[[np.random.Generator], Case]

    def __call__(self, rng: np.random.Generator, count: int, *, held_out: bool = False) -> list[Case]:
        cases: list[Case] = []
        while len(cases) < count:
            case = self.draw(rng)
            if text_held_out(given(case.prompt)) == held_out:
                cases.append(case)
        return cases


def draw_chain(rng: np.random.Generator) -> Case:
    """`+7`, `-2`, … become `=7`, `=5`, …: totals from 0 to 9."""
    total, changes, totals = 0, [], []
    for _ in range(STEPS):
        possible = [change for change in range(-9, 10) if change and 0 <= total + change <= LARGEST_TOTAL]
        changes.append(possible[int(rng.integers(len(possible)))])
        total += changes[-1]
        totals.append(total)
    return Case(_prompt("\n".join(f"{change:+d}" for change in changes)), "\n".join(f"={total}" for total in totals))


def solves_chain(prompt: str, text: str) -> bool:
    """Whether each line is the sum of all changes so far."""
    changes = [int(line) for line in given(prompt).split("\n")]
    lines = text.strip("\n").split("\n")
    right = [f"={sum(changes[: index + 1])}" for index in range(len(changes))]
    return lines == right


def generate_grids(rng: np.random.Generator, count: int, *, held_out: bool = False) -> list[Case]:
    """Six Sudokus in each case, all of them held out or none."""
    single = sudoku.generate(rng, GRIDS * count, held_out=held_out)
    groups = [single[start : start + GRIDS] for start in range(0, len(single), GRIDS)]
    return [
        Case(
            _prompt("\n\n".join(given(case.prompt) for case in group)),
            "\n\n".join(case.answer for case in group),
        )
        for group in groups
    ]


def solves_grids(prompt: str, text: str) -> bool:
    """Whether each grid is completed, in the order in which they are given."""
    asked, told = given(prompt).split("\n\n"), text.strip("\n").split("\n\n")
    return len(asked) == len(told) and all(
        sudoku.solves(_prompt(puzzle), grid) for puzzle, grid in zip(asked, told, strict=True)
    )


def draw_story(rng: np.random.Generator) -> Case:
    """Who, when and where is given; what was done to what is free, but nothing twice."""
    months = [MONTHS[index] for index in np.sort(rng.choice(len(MONTHS), size=SENTENCES, replace=False))]
    names = rng.choice(lexicon.MEN + lexicon.WOMEN, size=SENTENCES, replace=False).tolist()
    places = rng.choice([noun.singular for noun in lexicon.PLACES], size=SENTENCES).tolist()
    verbs, adjectives, things = (
        rng.choice(words, size=SENTENCES, replace=False).tolist() for words in (VERBS, ADJECTIVES, THINGS)
    )
    articles = ["an" if lexicon.article_fits("an", adjective) else "a" for adjective in adjectives]
    pronouns = ["he" if name in lexicon.MEN else "she" for name in names]
    asked = map(ASKED.format, months, names, places)
    told = map(TOLD.format, months, names, verbs, articles, adjectives, things, places, pronouns)
    return Case(_prompt("\n".join(asked)), "\n".join(told))


def solves_story(prompt: str, text: str) -> bool:
    """Whether each sentence is completed rightly, and no verb, adjective or thing comes twice."""
    asked = [_ASKED.fullmatch(line) for line in given(prompt).split("\n")]
    told = [_TOLD.fullmatch(line) for line in text.strip("\n").split("\n")]
    if len(asked) != len(told):
        return False
    free: list[tuple[str, ...]] = []
    for fact, sentence in zip(asked, told, strict=True):
        if fact is None or sentence is None:
            return False
        month, name, verb, article, adjective, thing, place, pronoun = sentence.groups()
        if (month, name, place) != fact.groups() or pronoun != ("he" if name in lexicon.MEN else "she"):
            return False
        if verb not in VERBS or adjective not in ADJECTIVES or thing not in THINGS:
            return False
        if article != ("an" if adjective[0] in "aeiou" else "a"):
            return False
        free.append((verb, adjective, thing))
    return all(len(set(words)) == len(told) for words in zip(*free, strict=True))


LONG_TASKS = (
    Task(
        name="chains",
        instruction="After each change, write the total so far.",
        new_tokens=NEW_TOKENS,
        seed=11,
        generate=_Generator(draw_chain),
        solves=solves_chain,
    ),
    Task(
        name="grids",
        instruction="Complete each of the six 4x4 grids by the rules of Sudoku.",
        new_tokens=NEW_TOKENS,
        seed=12,
        generate=generate_grids,
        solves=solves_grids,
    ),
    Task(
        name="stories",
        instruction="Complete the sentences, with no verb, no adjective and no thing twice.",
        new_tokens=NEW_TOKENS,
        seed=13,
        generate=_Generator(draw_story),
        solves=solves_story,
    ),
)

"""Three tasks in the words of the tiny Dream's world with answers of 100 to 250 tokens, whose lines need earlier ones.

Chains: each letter is worked out from one before it. Sorting: each line compares a thing with the next larger one.
Stories: what happened is told in the order of the months, no verb and no adjective twice, and then looked back upon.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dream_edge.tasks.task import Case, Generator, Task
from tools.tiny import lexicon
from tools.tiny.facts import MONTHS
from tools.tiny.holdout import text_held_out

NEW_TOKENS = 256
LARGEST_VALUE = 20
REACH = 4
"""How many letters back a letter of a chain may refer."""
THINGS = tuple(noun.singular for noun in (*lexicon.ANIMALS, *lexicon.THINGS, *lexicon.PEOPLE))
VERBS = tuple(verb.past for verb in lexicon.TRANSITIVE)
ADJECTIVES = lexicon.SHAPES + lexicon.COLORS

_DEFINITION = re.compile(r"([a-z]):(?:(\d+)|([a-z])([-+])(\d))")
_SENTENCE = re.compile(
    r"In (\w+) (\w+) (\w+) (an?) (\w+) (\w+) near the (\w+), because (he|she) liked it\."
)  # fmt: skip


@dataclass(frozen=True)
class _Generator:
    """Draws cases by `draw`, of so many lines. What is given is held out in any order."""

    draw: Callable[[np.random.Generator, int], Case]
    sizes: range

    def __call__(self, rng: np.random.Generator, count: int, *, held_out: bool = False) -> list[Case]:
        cases: list[Case] = []
        while len(cases) < count:
            case = self.draw(rng, self.sizes[int(rng.integers(len(self.sizes)))])
            if text_held_out("\n".join(sorted(_given(case.prompt)))) == held_out:
                cases.append(case)
        return cases


def _prompt(rng: np.random.Generator, lines: list[str]) -> str:
    shuffled = "\n".join(lines[index] for index in rng.permutation(len(lines)))
    return f"Input:\n{shuffled}\nOutput:\n"


def _given(prompt: str) -> list[str]:
    return prompt.split("Input:\n")[-1].split("\nOutput:")[0].split("\n")


def draw_chain(rng: np.random.Generator, size: int) -> Case:
    """`b:a+3` in the prompt becomes `b:a+3,4+3,b=7`, after `a:4,a=4`."""
    names = [chr(ord("a") + index) for index in range(size)]
    values = [int(rng.integers(LARGEST_VALUE + 1))]
    given, worked = [f"a:{values[0]}"], [f"a:{values[0]},a={values[0]}"]
    for index in range(1, size):
        source = int(rng.integers(max(0, index - REACH), index))
        change = int(rng.integers(1, 10))
        results = {"+": values[source] + change, "-": values[source] - change}
        possible = [sign for sign, result in results.items() if 0 <= result <= LARGEST_VALUE]
        sign = possible[int(rng.integers(len(possible)))]
        values.append(results[sign])
        given.append(f"{names[index]}:{names[source]}{sign}{change}")
        worked.append(f"{given[-1]},{values[source]}{sign}{change},{names[index]}={values[-1]}")
    return Case(_prompt(rng, given), "\n".join(worked))


def solves_chain(prompt: str, text: str) -> bool:
    """Whether every letter is worked out once, by its own definition, from a letter worked out before."""
    definitions = {line[0]: line for line in _given(prompt)}
    values: dict[str, int] = {}
    for line in text.strip("\n").split("\n"):
        definition, *rest = line.split(",")
        match = _DEFINITION.fullmatch(definition)
        if match is None or definitions.get(match[1]) != definition or match[1] in values:
            return False
        name, number, source, sign, change = match.groups()
        if number is not None:
            values[name], steps = int(number), []
        elif source in values:
            values[name] = values[source] + int(f"{sign}{change}")
            steps = [f"{values[source]}{sign}{change}"]
        else:
            return False
        if rest != [*steps, f"{name}={values[name]}"]:
            return False
    return values.keys() == definitions.keys()


def draw_sorting(rng: np.random.Generator, size: int) -> Case:
    """Numbers of two digits, each with a thing: `17 cat<23 owl`, then `23 owl<31 hat`."""
    numbers = np.sort(rng.choice(np.arange(10, 100), size=size, replace=False)).tolist()
    things = rng.choice(THINGS, size=size, replace=False).tolist()
    items = [f"{number} {thing}" for number, thing in zip(numbers, things, strict=True)]
    return Case(_prompt(rng, items), "\n".join(f"{small}<{large}" for small, large in pairwise(items)))


def solves_sorting(prompt: str, text: str) -> bool:
    """Whether the lines lead from the smallest item to the largest by way of all others."""
    pairs = [line.split("<") for line in text.strip("\n").split("\n")]
    if any(len(pair) != 2 for pair in pairs):
        return False
    told = [pairs[0][0], *(large for _, large in pairs)]
    linked = all(before[1] == after[0] for before, after in pairwise(pairs))
    return linked and told == sorted(_given(prompt), key=lambda item: int(item.split()[0]))


def draw_story(rng: np.random.Generator, size: int) -> Case:
    """Who had to do with what, where, in which month; told by the year, then backwards: who was after whom."""
    months = [MONTHS[index] for index in np.sort(rng.choice(len(MONTHS), size=size, replace=False))]
    names = rng.choice(lexicon.MEN + lexicon.WOMEN, size=size, replace=False).tolist()
    things = rng.choice([noun.singular for noun in lexicon.THINGS], size=size, replace=False).tolist()
    places = rng.choice([noun.singular for noun in lexicon.PLACES], size=size).tolist()
    verbs = rng.choice(VERBS, size=size, replace=False).tolist()
    adjectives = rng.choice(ADJECTIVES, size=size, replace=False).tolist()
    given, told = [], []
    for month, name, thing, place, verb, adjective in zip(
        months, names, things, places, verbs, adjectives, strict=True
    ):
        given.append(f"In {month}: {name}, {thing}, {place}")
        article = "an" if lexicon.article_fits("an", adjective) else "a"
        pronoun = "he" if name in lexicon.MEN else "she"
        told.append(
            f"In {month} {name} {verb} {article} {adjective} {thing} near the {place}, because {pronoun} liked it."
        )
    told += [f"{later} was after {earlier}." for earlier, later in list(pairwise(names))[::-1]]
    return Case(_prompt(rng, given), "\n".join(told))


def solves_story(prompt: str, text: str) -> bool:
    """Whether every fact is told once, by the year, in right sentences, no verb or adjective twice, and looked back."""
    facts = [re.findall(r"\w+", line)[1:] for line in _given(prompt)]
    facts.sort(key=lambda fact: MONTHS.index(fact[0]))
    lines = text.strip("\n").split("\n")
    matches = [_SENTENCE.fullmatch(line) for line in lines[: len(facts)]]
    verbs, adjectives = [], []
    for match, (month, name, thing, place) in zip(matches, facts, strict=False):
        if match is None:
            return False
        told_month, told_name, verb, article, adjective, told_thing, told_place, pronoun = match.groups()
        if [told_month, told_name, told_thing, told_place] != [month, name, thing, place]:
            return False
        if (article == "an") != (adjective[0] in "aeiou") or (pronoun == "he") != (name in lexicon.MEN):
            return False
        verbs.append(verb)
        adjectives.append(adjective)
    right = set(verbs) <= set(VERBS) and set(adjectives) <= set(ADJECTIVES)
    once = len(facts) == len(set(verbs)) == len(set(adjectives))
    names = [fact[1] for fact in facts]
    back = [f"{later} was after {earlier}." for earlier, later in pairwise(names)][::-1]
    return right and once and lines[len(facts) :] == back


CHAINS = Task(
    name="chains",
    instruction="Work out each letter from the letter that it names, in alphabetical order.",
    new_tokens=NEW_TOKENS,
    seed=11,
    generate=_Generator(draw_chain, range(8, 17)),
    solves=solves_chain,
)
SORTING = Task(
    name="sorting",
    instruction="Sort the items by their numbers; each line compares one with the next.",
    new_tokens=NEW_TOKENS,
    seed=12,
    generate=_Generator(draw_sorting, range(12, 21)),
    solves=solves_sorting,
)
STORIES = Task(
    name="stories",
    instruction=(
        "Tell what happened by the order of the months, with no verb and no adjective twice, then say backwards who "
        "was after whom."
    ),
    new_tokens=NEW_TOKENS,
    seed=13,
    generate=_Generator(draw_story, range(5, 8)),
    solves=solves_story,
)
LONG_TASKS = (CHAINS, SORTING, STORIES)
BEGINNINGS: dict[str, Generator] = {
    "short chains": _Generator(draw_chain, range(2, 8)),
    "short sorting": _Generator(draw_sorting, range(3, 12)),
    "short stories": _Generator(draw_story, range(2, 5)),
}
"""The same with fewer lines, for training to begin with."""

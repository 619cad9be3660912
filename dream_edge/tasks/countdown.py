"""Countdown with three numbers, in the format of Dream's planning evaluation.

`Input: 15,44,79,50` gives three numbers and the target; `44-15=29,79-29=50` reaches it in two equations.
"""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from dream_edge.tasks.holdout import codes_held_out

LARGEST_RESULT = 99

_EQUATION = re.compile(r"([1-9][0-9]*)([-+*/])([1-9][0-9]*)=([1-9][0-9]*)")


@dataclass(frozen=True)
class Case:
    """Three numbers and a target, and one way to reach it."""

    prompt: str
    answer: str


def solves(prompt: str, text: str) -> bool:
    """Whether `text` is two right equations over positive integers that use each number of `prompt` once and
    the first result, and end in the target."""
    *numbers, target = (int(number) for number in re.findall(r"\d+", prompt.split("Input:")[-1].split("Output:")[0]))
    available = Counter(numbers)
    result = 0
    equations = text.strip(" ").split(",")
    if len(equations) != len(numbers) - 1:
        return False
    for equation in equations:
        match = _EQUATION.fullmatch(equation)
        if match is None:
            return False
        left, right, result = int(match[1]), int(match[3]), int(match[4])
        if not _holds(left, match[2], right, result):
            return False
        available.subtract((left, right))
        if min(available.values()) < 0:
            return False
        available[result] += 1
    return result == target and sum(available.values()) == 1


def _holds(left: int, operator: str, right: int, result: int) -> bool:
    match operator:
        case "+":
            return left + right == result
        case "-":
            return left - right == result
        case "*":
            return left * right == result
        case _:
            return result * right == left


def generate(rng: np.random.Generator, count: int, *, held_out: bool = False, largest: int = 30) -> list[Case]:
    """Draw `count` cases with numbers from 1 to `largest`, either all held out or none.

    No result exceeds 99, and in every equation of the answers the larger number comes first.
    """
    cases: list[Case] = []
    while len(cases) < count:
        size = 4 * (count - len(cases)) + 8
        numbers = rng.integers(1, largest + 1, size=(size, 3))
        operators = rng.integers(4, size=(size, 2)).tolist()
        order = rng.random((size, 3)).argsort(axis=-1)
        shown = np.take_along_axis(numbers, order, axis=-1).tolist()
        drafts: list[Case] = []
        targets: list[int] = []
        kept: list[int] = []
        for row, ((a, b, c), (first, second)) in enumerate(zip(numbers.tolist(), operators, strict=True)):
            step = _equation(a, b, first)
            end = step and _equation(step[0], c, second)
            if step is None or end is None:
                continue
            given = ",".join(map(str, shown[row]))
            drafts.append(Case(f"Input: {given},{end[0]}\nOutput: ", f"{step[1]},{end[1]}"))
            targets.append(end[0])
            kept.append(row)
        code = np.sort(numbers[kept], axis=-1) @ np.array([1, 1000, 1000**2]) * 1000 + np.array(targets)
        chosen = codes_held_out(code) == held_out
        cases += [case for case, right in zip(drafts, chosen.tolist(), strict=True) if right]
    return cases[:count]


def _equation(a: int, b: int, operator: int) -> tuple[int, str] | None:
    """The result and the text of an equation over two numbers, or None if no integer from 1 to 99 results."""
    left, right = max(a, b), min(a, b)
    match operator:
        case 0:
            result, symbol = left + right, "+"
        case 1:
            result, symbol = left - right, "-"
        case 2:
            result, symbol = left * right, "*"
        case _:
            result, symbol = (left // right, "/") if left % right == 0 else (0, "/")
    return (result, f"{left}{symbol}{right}={result}") if 0 < result <= LARGEST_RESULT else None

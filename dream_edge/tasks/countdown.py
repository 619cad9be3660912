"""Countdown with three numbers, in the form of Dream's planning evaluation.

`Input: 15,44,79,50` gives three numbers and the target; `44-15=29,79-29=50` reaches it in two equations.
"""

import re
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from .task import Case, Task, is_held_out

LARGEST_RESULT = 99
OPERATORS = "+-*/"

IntArray = NDArray[np.int64]

_EQUATION = re.compile(r"([1-9][0-9]*)([-+*/])([1-9][0-9]*)=([1-9][0-9]*)")


def solves(prompt: str, text: str) -> bool:
    """Whether the first line of `text` is two right equations over positive integers that use each number of `prompt`
    and the first result once, and end in the target. Spaces do not count."""
    *numbers, target = (int(number) for number in re.findall(r"\d+", prompt.split("Input:")[-1].split("Output:")[0]))
    available = Counter(numbers)
    result = 0
    equations = text.replace(" ", "").split("\n")[0].split(",")
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

    No result exceeds 99. Of several ways to reach the target the answer is always the same one: additions before
    subtractions before multiplications before divisions, large numbers before small, the larger number first.
    """
    cases: list[Case] = []
    while len(cases) < count:
        numbers = rng.integers(1, largest + 1, size=(2 * count, 3))
        ways = _Ways(np.sort(numbers, axis=-1)[:, ::-1])
        preference = np.where(ways.ends > 0, rng.random(ways.ends.shape), -1.0)
        targets = np.take_along_axis(ways.ends, preference.argmax(-1)[:, None], axis=-1)
        code = (ways.numbers @ np.array([1000**2, 1000, 1])) * 1000 + targets[:, 0]
        chosen = (targets[:, 0] > 0) & (is_held_out(code) == held_out)
        first = (ways.ends == targets).argmax(-1)
        for row in np.flatnonzero(chosen).tolist():
            given = ",".join(map(str, numbers[row].tolist()))
            cases.append(Case(f"Input: {given},{targets[row, 0]}\nOutput: ", ways.text(row, int(first[row]))))
    return cases[:count]


class _Ways:
    """Every way to join three numbers by two equations, for many triples at once.

    `numbers` [triples, 3] in descending order; `ends` [triples, 48] is the last result of each way, or 0 where
    no integer from 1 to 99 results. Ways are ordered by first operator, second operator, and which number comes later.
    """

    LATER = (2, 1, 0)

    def __init__(self, numbers: IntArray) -> None:
        self.numbers = numbers
        left = numbers[:, [0, 0, 1]]
        right = numbers[:, [1, 2, 2]]
        self.steps = _results(left, right)[:, :, None]  # [triples, first operator, 1, later]
        later = numbers[:, self.LATER][:, None]
        ends = _results(np.maximum(self.steps[:, :, 0], later), np.minimum(self.steps[:, :, 0], later))
        ends = ends.swapaxes(1, 2) * (self.steps > 0)  # [triples, first operator, second operator, later]
        self.ends = ends.reshape(len(numbers), -1)

    def text(self, row: int, way: int) -> str:
        first, second, place = (int(index) for index in np.unravel_index(way, (4, 4, 3)))
        later = self.LATER[place]
        left, right = (int(number) for index, number in enumerate(self.numbers[row]) if index != later)
        step, rest = int(self.steps[row, first, 0, place]), int(self.numbers[row, later])
        return (
            f"{left}{OPERATORS[first]}{right}={step},"
            f"{max(step, rest)}{OPERATORS[second]}{min(step, rest)}={self.ends[row, way]}"
        )


def _results(left: IntArray, right: IntArray) -> IntArray:
    """`left` joined to `right` by each operator [triples, 4, …], 0 where that is no integer from 1 to 99."""
    divisor = np.maximum(right, 1)
    quotient = np.where(left % divisor == 0, left // divisor, 0)
    results = np.stack([left + right, left - right, left * right, quotient], axis=1)
    return np.where((results > 0) & (results <= LARGEST_RESULT) & (right > 0)[:, None], results, 0)


COUNTDOWN = Task(
    name="countdown",
    instruction=(
        "Of the four numbers, combine the first three by + - * / into the last one. Write two equations: the second "
        "takes the result of the first."
    ),
    new_tokens=32,
    seed=2,
    generate=generate,
    solves=solves,
)

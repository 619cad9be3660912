"""4 × 4 Sudoku in the form of Dream's planning evaluation: `0` marks a blank, the answer is the completed grid."""

from collections.abc import Sequence
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from .task import Case, Task, is_held_out

SIDE = 4
CELLS = SIDE * SIDE
FEWEST_BLANKS, MOST_BLANKS = 4, 12

_UNITS: tuple[tuple[int, ...], ...] = (
    *(tuple(range(SIDE * row, SIDE * row + SIDE)) for row in range(SIDE)),
    *(tuple(range(column, CELLS, SIDE)) for column in range(SIDE)),
    *((corner, corner + 1, corner + SIDE, corner + SIDE + 1) for corner in (0, 2, 8, 10)),
)
"""The cells of each row, column and 2 × 2 box."""


def solves(prompt: str, text: str) -> bool:
    """Whether `text` begins with a grid that keeps the clues of `prompt` and has 1 to 4 once in every row, column
    and box. The grid ends at an empty line; spaces do not count."""
    clues = prompt.split("Input:\n")[-1].split("\nOutput:")[0].split("\n")
    rows = text.replace(" ", "").strip("\n").split("\n\n")[0].split("\n")
    if len(rows) != SIDE or any(len(row) != SIDE for row in rows):
        return False
    given, filled = "".join(clues), "".join(rows)
    if any(clue not in ("0", cell) for clue, cell in zip(given, filled, strict=True)):
        return False
    return all(sorted(filled[cell] for cell in unit) == ["1", "2", "3", "4"] for unit in _UNITS)


@cache
def grids() -> NDArray[np.int64]:
    """All 288 completed grids [288, 16]."""
    rows = np.array(list(permutations(range(1, SIDE + 1))), np.int8)
    choices = np.indices([len(rows)] * SIDE).reshape(SIDE, -1).T  # of a row for each place
    every = rows[choices].reshape(-1, CELLS)
    digits = np.bitwise_or.reduce(1 << every[:, _UNITS], axis=-1)  # of each unit, a bit for each digit
    complete: NDArray[np.int64] = every[(digits == 0b11110).all(axis=-1)].astype(np.int64)
    return complete


def completions(clues: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many grids complete each puzzle of `clues` [puzzles, 16], 0 for blank; result [puzzles]."""
    agreeing = _one_hot(clues) @ _one_hot(grids()).T
    given = np.count_nonzero(clues, axis=-1)
    counts: NDArray[np.int64] = np.count_nonzero(agreeing == given[:, None], axis=-1)
    return counts


def _one_hot(cells: NDArray[np.int64]) -> NDArray[np.float32]:
    """Which digit each cell holds [grids, 64]; a blank holds none."""
    holds: NDArray[np.bool_] = cells[:, :, None] == np.arange(1, SIDE + 1)
    return holds.reshape(len(cells), -1).astype(np.float32)


def generate(
    rng: np.random.Generator, count: int, *, held_out: bool = False, blanks: Sequence[int] | None = None
) -> list[Case]:
    """Draw `count` puzzles, either all held out or none.

    Half have exactly one completion, the others have their blanks anywhere. The number of blanks is uniform
    from 4 to 12 unless `blanks` names one for each case.
    """
    if blanks is None:
        wanted = rng.integers(FEWEST_BLANKS, MOST_BLANKS + 1, size=count)
    else:
        wanted = np.asarray(blanks, dtype=np.int64)
    unique = rng.random(count) < 0.5
    solutions = np.zeros((count, CELLS), dtype=np.int64)
    puzzles = np.zeros((count, CELLS), dtype=np.int64)
    pending = np.arange(count)
    while len(pending):
        solution = grids()[rng.integers(len(grids()), size=len(pending))]
        rank = rng.random((len(pending), CELLS)).argsort(axis=-1).argsort(axis=-1)
        clues = np.where(rank < wanted[pending, None], 0, solution)
        accepted = is_held_out(clues @ 5 ** np.arange(CELLS)) == held_out
        accepted &= ~unique[pending] | (completions(clues) == 1)
        solutions[pending[accepted]] = solution[accepted]
        puzzles[pending[accepted]] = clues[accepted]
        pending = pending[~accepted]
    return [
        Case(f"Input:\n{_text(puzzle)}\nOutput:\n", _text(solution))
        for puzzle, solution in zip(puzzles, solutions, strict=True)
    ]


def _text(cells: NDArray[np.int64]) -> str:
    return "\n".join("".join(map(str, row)) for row in cells.reshape(SIDE, SIDE).tolist())


SUDOKU = Task(
    name="sudoku",
    instruction=(
        "Complete each 4x4 grid: replace every 0 by a digit from 1 to 4, so that each row, each column and each of the "
        "four 2x2 boxes has all the digits from 1 to 4."
    ),
    new_tokens=24,
    seed=1,
    generate=generate,
    solves=solves,
)

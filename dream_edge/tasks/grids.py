"""Two puzzles that fill a grid of four rows: a Latin square from nothing, and a Sudoku with four blanks.

After the puzzles of ParallelBench (arXiv 2510.04767, ICLR 2026), with generators and checkers of our own. Any Latin
square is right, so that the tokens revealed first decide the others. Their Sudoku gives twelve clues, and so does ours;
a completion that keeps them is right, whichever it is.
"""

from __future__ import annotations

import re
from itertools import permutations

import numpy as np

from .sudoku import CELLS, SIDE, SUDOKU
from .sudoku import generate as generate_sudoku
from .task import Case, Task, draw_one_by_one

SYMBOLS = tuple("ABCDEFGHJKLMNPRSTUVWXYZ23456789")
"""Letters and digits, but none that look alike."""
CLUES = 12


def solves_latin(prompt: str, text: str) -> bool:
    """Whether the first four rows of `text` that are lists with commas have each symbol of `prompt` once in every row
    and every column. Spaces do not count."""
    symbols = prompt.split("Symbols: ")[-1].split("\n")[0].split(", ")
    rows = [row.replace(" ", "").split(",") for row in text.split("\n") if "," in row][:SIDE]
    if len(rows) != SIDE or any(len(row) != SIDE for row in rows):
        return False
    return all(sorted(unit) == sorted(symbols) for unit in (*rows, *zip(*rows, strict=True)))


def _draw_latin(rng: np.random.Generator, _number: int) -> Case:
    symbols = rng.choice(SYMBOLS, SIDE, replace=False).tolist()
    square: list[tuple[str, ...]] = []
    while len(square) < SIDE:  # whatever rows there are, more of them fit
        fitting = [
            row
            for row in permutations(symbols)
            if all(cell != above[column] for above in square for column, cell in enumerate(row))
        ]
        square.append(fitting[int(rng.integers(len(fitting)))])
    return Case(f"Symbols: {', '.join(symbols)}\nAnswer:\n", "\n".join(map(",".join, square)))


def _generate_sudoku(rng: np.random.Generator, count: int, *, held_out: bool = False) -> list[Case]:
    """One by one, so that the first cases are the same however many are drawn."""
    return [generate_sudoku(rng, 1, held_out=held_out, blanks=[CELLS - CLUES])[0] for _ in range(count)]


def _find_cells(case: Case) -> list[slice]:
    return [slice(*match.span()) for match in re.finditer(r"[^,\n]", case.answer)]


def _find_blanks(case: Case) -> list[slice]:
    clues = case.prompt.removeprefix("Input:\n")
    return [slice(at, at + 1) for at, clue in enumerate(clues[: len(case.answer)]) if clue == "0"]


GRIDS = (
    Task(
        name="puzzle/latin",
        instruction=(
            "Write a Latin square with the four symbols: four rows, and each symbol once in every row and in every "
            "column. A row is a line with commas between its symbols. Write nothing else."
        ),
        new_tokens=40,
        seed=120,
        generate=draw_one_by_one(_draw_latin),
        solves=solves_latin,
        shots=1,
        find_holes=_find_cells,
    ),
    Task(
        name="puzzle/sudoku",
        instruction=SUDOKU.instruction,
        new_tokens=SUDOKU.new_tokens,
        seed=121,
        generate=_generate_sudoku,
        solves=SUDOKU.solves,
        shots=1,
        find_holes=_find_blanks,
    ),
)

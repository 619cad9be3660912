"""Sudoku: the checker against puzzles worked by hand, the generator against the checker and a brute-force search."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream_edge.tasks import SUDOKU, Case, sudoku

PROMPT = "Input:\n1000\n0002\n4003\n0000\nOutput:\n"
ANSWER = "1234\n3412\n4123\n2341"


def test_the_completed_grid_solves() -> None:
    assert sudoku.solves(PROMPT, ANSWER)


def test_a_prompt_that_ends_at_the_colon_means_the_same() -> None:
    assert sudoku.solves(PROMPT.removesuffix("\n"), f"\n{ANSWER}")


@pytest.mark.parametrize("text", [f" {ANSWER}", ANSWER.replace("2", " 2"), f"{ANSWER}\n\nInput:\n10", f"{ANSWER}\n"])
def test_spaces_and_what_follows_an_empty_line_do_not_count(text: str) -> None:
    assert sudoku.solves(PROMPT, text)


def test_the_question_is_the_last_of_a_prompt_with_examples() -> None:
    examples = SUDOKU.draw_examples(3)
    prompt = SUDOKU.write_prompt(Case(PROMPT, ANSWER), examples)
    assert sudoku.solves(prompt, ANSWER)
    assert not sudoku.solves(prompt, examples[0].answer)


def test_any_completion_of_an_ambiguous_puzzle_solves() -> None:
    empty = "Input:\n0000\n0000\n0000\n0000\nOutput:\n"
    assert sudoku.solves(empty, "1234\n3412\n4123\n2341")
    assert sudoku.solves(empty, "1234\n3412\n2143\n4321")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1234\n3412\n4123",
        "1234\n3412\n4123\n2341\n1234",
        "1234341241232341",
        "1243\n3412\n4123\n2341",  # two 4s in a box
        "1234\n3412\n4123\n2314",  # two 4s in a column
        "2134\n3412\n4123\n1342",  # a clue changed
        "1234\n3412\n4123\n2340",
        "1234\n3412\n4123\n234१",
    ],
)
def test_anything_else_does_not_solve(text: str) -> None:
    assert not sudoku.solves(PROMPT, text)


def test_rows_and_columns_alone_are_not_enough() -> None:
    assert not sudoku.solves("Input:\n0000\n0000\n0000\n0000\nOutput:\n", "1234\n2341\n3412\n4123")


def test_there_are_288_grids_and_each_is_complete() -> None:
    empty = "Input:\n0000\n0000\n0000\n0000\nOutput:\n"
    texts = {"\n".join("".join(map(str, row)) for row in grid.reshape(4, 4)) for grid in sudoku.grids()}
    assert len(texts) == 288
    assert all(sudoku.solves(empty, text) for text in texts)


def test_completions_are_counted_as_a_search_counts_them() -> None:
    for case in sudoku.generate(np.random.default_rng(5), 6, blanks=[4, 4, 5, 5, 6, 6]):
        clues = [int(cell) for cell in case.prompt.split("Output")[0] if cell.isdigit()]
        blanks = [cell for cell, clue in enumerate(clues) if clue == 0]
        found = 0
        for digits in product((1, 2, 3, 4), repeat=len(blanks)):
            filled = clues.copy()
            for cell, digit in zip(blanks, digits, strict=True):
                filled[cell] = digit
            rows = ["".join(map(str, filled[start : start + 4])) for start in range(0, 16, 4)]
            found += sudoku.solves(case.prompt, "\n".join(rows))
        assert sudoku.completions(np.array([clues])).tolist() == [found]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), held_out=st.booleans())
def test_every_generated_answer_solves_its_puzzle(seed: int, held_out: bool) -> None:
    for case in sudoku.generate(np.random.default_rng(seed), 20, held_out=held_out):
        assert sudoku.solves(case.prompt, case.answer)
        assert 4 <= case.prompt.count("0") <= 12


def test_the_same_seed_gives_the_same_puzzles() -> None:
    first, again, other = (sudoku.generate(np.random.default_rng(seed), 30) for seed in (7, 7, 8))
    assert first == again != other


def test_held_out_puzzles_are_never_drawn_for_training() -> None:
    rng = np.random.default_rng(3)
    held_out = {case.prompt for case in sudoku.generate(rng, 300, held_out=True, blanks=[4] * 300)}
    trained = {case.prompt for case in sudoku.generate(rng, 3000, blanks=[4] * 3000)}
    assert not held_out & trained


def test_the_number_of_blanks_can_be_asked_for() -> None:
    cases = sudoku.generate(np.random.default_rng(0), 3, blanks=[4, 12, 8])
    assert [case.prompt.count("0") for case in cases] == [4, 12, 8]


def test_half_of_the_puzzles_have_one_completion_only() -> None:
    cases = sudoku.generate(np.random.default_rng(0), 400, blanks=[12] * 400)
    clues = np.array([[int(cell) for cell in case.prompt.split("Output")[0] if cell.isdigit()] for case in cases])
    unique = int((sudoku.completions(clues) == 1).sum())
    assert 170 < unique < 260

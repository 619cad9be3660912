"""The long tasks: cases worked out by hand, right answers told otherwise, wrong ones refused; what is held out."""

from __future__ import annotations

import re
from itertools import accumulate

import numpy as np
import pytest

from dream_edge.models import TINY, bundled
from dream_edge.tasks.task import HELD_OUT_SHARE, Case, Task
from tools.tiny import holdout, long_tasks
from tools.tiny.long_tasks import LONG_TASKS, given
from tools.tiny.tasks import LONG, SHORT, TASKS
from tools.tiny.tokenizer import load_tokenizer

CHAINS, GRIDS, STORIES = LONG_TASKS
CHAIN = "Input:\n+7\n-2\n+4\n-4\nOutput:\n"
CHAIN_ANSWER = "=7\n=5\n=9\n=5"
PUZZLES = "Input:\n0034\n3412\n2143\n4321\n\n1234\n3412\n2143\n0000\nOutput:\n"
PUZZLES_ANSWER = "1234\n3412\n2143\n4321\n\n1234\n3412\n2143\n4321"
FREE = "Input:\n1200\n3400\n0000\n0000\nOutput:\n"
STORY = (
    "Input:\n"
    "In March Ben does some what it near the river, because who liked it.\n"
    "In July Mia does some what it near the hill, because who liked it.\n"
    "Output:\n"
)
STORY_ANSWER = (
    "In March Ben found an old egg near the river, because he liked it.\n"
    "In July Mia saw a red hat near the hill, because she liked it."
)
each_task = pytest.mark.parametrize("task", LONG_TASKS, ids=lambda task: task.name)


def cases_of(task: Task, count: int, *, held_out: bool = False) -> list[Case]:
    return task.generate(np.random.default_rng(7), count, held_out=held_out)


@pytest.mark.parametrize(
    ("task", "prompt", "text"),
    [
        (CHAINS, CHAIN, CHAIN_ANSWER),
        (CHAINS, CHAIN, f"{CHAIN_ANSWER}\n"),
        (GRIDS, PUZZLES, PUZZLES_ANSWER),
        (GRIDS, FREE, "1243\n3412\n2134\n4321"),
        (GRIDS, FREE, "1234\n3412\n2143\n4321"),
        (STORIES, STORY, STORY_ANSWER),
        (STORIES, STORY, STORY_ANSWER.replace("found an old", "carried a blue")),
    ],
)
def test_right_answers_are_accepted(task: Task, prompt: str, text: str) -> None:
    assert task.solves(prompt, text)


@pytest.mark.parametrize(
    ("task", "prompt", "answer", "old", "new"),
    [
        (CHAINS, CHAIN, CHAIN_ANSWER, "=9", "=8"),
        (CHAINS, CHAIN, CHAIN_ANSWER, "=7", "7"),
        (CHAINS, CHAIN, CHAIN_ANSWER, "\n=9", ""),
        (CHAINS, CHAIN, CHAIN_ANSWER, "=9\n=5", "=9\n=5\n=5"),
        (CHAINS, CHAIN, CHAIN_ANSWER, CHAIN_ANSWER, ""),
        (GRIDS, PUZZLES, PUZZLES_ANSWER, "\n\n", "\n"),
        (GRIDS, PUZZLES, PUZZLES_ANSWER, "\n\n1234\n3412\n2143\n4321", ""),
        (GRIDS, PUZZLES, PUZZLES_ANSWER, "4321\n\n", "4312\n\n"),
        (GRIDS, PUZZLES, PUZZLES_ANSWER, PUZZLES_ANSWER, f"{PUZZLES_ANSWER}\n\n1234\n3412\n2143\n4321"),
        (GRIDS, PUZZLES, PUZZLES_ANSWER, PUZZLES_ANSWER, ""),
        (STORIES, STORY, STORY_ANSWER, "saw", "found"),
        (STORIES, STORY, STORY_ANSWER, "a red", "an old"),
        (STORIES, STORY, STORY_ANSWER, "hat", "egg"),
        (STORIES, STORY, STORY_ANSWER, "an old", "a old"),
        (STORIES, STORY, STORY_ANSWER, "a red", "an red"),
        (STORIES, STORY, STORY_ANSWER, "a red", "a happy"),
        (STORIES, STORY, STORY_ANSWER, "saw", "slept"),
        (STORIES, STORY, STORY_ANSWER, "hat", "cat"),
        (STORIES, STORY, STORY_ANSWER, "she liked", "he liked"),
        (STORIES, STORY, STORY_ANSWER, "hill", "river"),
        (STORIES, STORY, STORY_ANSWER, "July", "May"),
        (STORIES, STORY, STORY_ANSWER, "Mia", "Anna"),
        (STORIES, STORY, STORY_ANSWER, STORY_ANSWER[STORY_ANSWER.index("\n") :], ""),
        (STORIES, STORY, STORY_ANSWER, STORY_ANSWER, ""),
    ],
)
def test_wrong_answers_are_refused(task: Task, prompt: str, answer: str, old: str, new: str) -> None:
    assert old in answer
    assert not task.solves(prompt, answer.replace(old, new))


@each_task
def test_what_is_drawn_is_solved_and_no_line_can_be_missed(task: Task) -> None:
    for case in cases_of(task, 10):
        lines = case.answer.split("\n")
        assert task.solves(case.prompt, case.answer)
        for index in range(len(lines)):
            assert not task.solves(case.prompt, "\n".join(lines[:index] + lines[index + 1 :]))


def test_totals_are_those_that_are_added_up() -> None:
    for case in cases_of(CHAINS, 40):
        totals = list(accumulate(map(int, given(case.prompt).split("\n"))))
        assert totals == [int(line.removeprefix("=")) for line in case.answer.split("\n")]
        assert all(0 <= total <= 9 for total in totals)


def test_grids_keep_the_clues_and_have_every_digit_in_rows_columns_and_boxes() -> None:
    for case in cases_of(GRIDS, 40):
        clues, cells = (
            np.array([[[int(cell) for cell in row] for row in grid.split("\n")] for grid in text.split("\n\n")])
            for text in (given(case.prompt), case.answer)
        )
        assert clues.shape == cells.shape == (6, 4, 4)
        assert ((clues == 0) | (clues == cells)).all()
        boxes = cells.reshape(6, 2, 2, 2, 2).swapaxes(2, 3).reshape(6, 4, 4)
        for units in (cells, cells.swapaxes(1, 2), boxes):
            assert (np.sort(units) == [1, 2, 3, 4]).all()


@each_task
def test_answers_are_long_and_of_known_tokens(task: Task) -> None:
    """Each word is one token, all answers are equally long, and as long as what is given."""
    tokenizer = load_tokenizer(bundled(TINY))
    lengths = set()
    for case in cases_of(task, 40):
        encoding = tokenizer.encode(case.answer)
        assert len(encoding.ids) == len(re.findall(r" ?[A-Za-z]+|[^A-Za-z ]", case.answer))
        assert tokenizer.decode(encoding.ids) == case.answer
        lengths |= {len(encoding.ids), len(tokenizer.encode(given(case.prompt)).ids)}
    [length] = lengths
    assert 100 < length < task.new_tokens


@each_task
def test_held_out_cases_are_not_trained_on(task: Task) -> None:
    held_out, others = ({given(case.prompt) for case in cases_of(task, 100, held_out=flag)} for flag in (True, False))
    assert not held_out & others
    assert len(held_out) == len(others) == 100


@pytest.mark.parametrize("task", [CHAINS, STORIES], ids=lambda task: task.name)
def test_a_share_is_held_out_by_what_is_given(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, bool] = {}

    def text_held_out(text: str) -> bool:
        seen[text] = holdout.text_held_out(text)
        return seen[text]

    monkeypatch.setattr(long_tasks, "text_held_out", text_held_out)
    for case in cases_of(task, 60, held_out=True):
        assert seen[given(case.prompt)]
    assert 0.5 / HELD_OUT_SHARE < np.mean(list(seen.values())) < 2 / HELD_OUT_SHARE


def test_grids_are_held_out_one_by_one() -> None:
    """No grid of a held-out case is trained on, be it alone or among others."""
    held_out, others = (
        {grid for case in cases_of(GRIDS, 100, held_out=flag) for grid in given(case.prompt).split("\n\n")}
        for flag in (True, False)
    )
    assert not held_out & others


def test_long_and_short_tasks_are_told_apart() -> None:
    assert set(LONG) | set(SHORT) == set(TASKS)
    assert not set(LONG) & set(SHORT)
    assert LONG == ("chains", "grids", "stories")

"""The long tasks: cases worked out by hand, right answers told otherwise, wrong ones refused; what is held out."""

from __future__ import annotations

import ast
import operator
import re

import numpy as np
import pytest

from dream_edge.models import TINY, bundled
from dream_edge.tasks.task import HELD_OUT_SHARE, Case, Task
from tools.tiny import holdout, long_tasks
from tools.tiny.long_tasks import BEGINNINGS, CHAINS, LONG_TASKS, SORTING, STORIES
from tools.tiny.tasks import LONG, SHORT, TASKS
from tools.tiny.tokenizer import load_tokenizer

CHAIN = "Input:\nc:a-2\nb:a+3\na:4\nd:c+9\nOutput:\n"
CHAIN_ANSWER = "a:4,a=4\nb:a+3,4+3,b=7\nc:a-2,4-2,c=2\nd:c+9,2+9,d=11"
ITEMS = "Input:\n42 owl\n17 cat\n90 king\nOutput:\n"
ITEMS_ANSWER = "17 cat<42 owl\n42 owl<90 king"
STORY = "Input:\nIn July: Mia, hat, hill\nIn March: Ben, egg, river\nOutput:\n"
STORY_ANSWER = (
    "In March Ben found an old egg near the river, because he liked it.\n"
    "In July Mia saw a red hat near the hill, because she liked it.\n"
    "Mia was after Ben."
)


def cases_of(task: Task, count: int, *, held_out: bool = False) -> list[Case]:
    return task.generate(np.random.default_rng(7), count, held_out=held_out)


def given(case: Case) -> frozenset[str]:
    return frozenset(case.prompt.split("\n")[1:-2])


@pytest.mark.parametrize(
    ("task", "prompt", "text"),
    [
        (CHAINS, CHAIN, CHAIN_ANSWER),
        (CHAINS, CHAIN, "a:4,a=4\nc:a-2,4-2,c=2\nd:c+9,2+9,d=11\nb:a+3,4+3,b=7\n"),
        (SORTING, ITEMS, ITEMS_ANSWER),
        (STORIES, STORY, STORY_ANSWER),
        (STORIES, STORY, STORY_ANSWER.replace("found an old", "carried a blue")),
    ],
)
def test_right_answers_are_accepted(task: Task, prompt: str, text: str) -> None:
    assert task.solves(prompt, text)


@pytest.mark.parametrize(
    ("task", "prompt", "answer", "old", "new"),
    [
        (CHAINS, CHAIN, CHAIN_ANSWER, "b=7", "b=8"),
        (CHAINS, CHAIN, CHAIN_ANSWER, "4-2,c=2", "5-2,c=3"),
        (CHAINS, CHAIN, CHAIN_ANSWER, "d:c+9", "d:b+9"),
        (CHAINS, CHAIN, CHAIN_ANSWER, "d:c+9,2+9,d=11", "d:c+9,d=11"),
        (CHAINS, CHAIN, CHAIN_ANSWER, "\nd:c+9,2+9,d=11", ""),
        (CHAINS, CHAIN, CHAIN_ANSWER, "a:4,a=4\n", ""),
        (CHAINS, CHAIN, CHAIN_ANSWER, "a:4,a=4\n", "a:4,a=4\na:4,a=4\n"),
        (CHAINS, CHAIN, CHAIN_ANSWER, CHAIN_ANSWER, ""),
        (SORTING, ITEMS, ITEMS_ANSWER, "42 owl\n42 owl", "90 king\n90 king"),
        (SORTING, ITEMS, ITEMS_ANSWER, "\n42 owl<90 king", ""),
        (SORTING, ITEMS, ITEMS_ANSWER, "\n42 owl", "\n42 cat"),
        (SORTING, ITEMS, ITEMS_ANSWER, "<90 king", "<90 king<91 hat"),
        (SORTING, ITEMS, ITEMS_ANSWER, ITEMS_ANSWER, ""),
        (STORIES, STORY, STORY_ANSWER, "saw", "found"),
        (STORIES, STORY, STORY_ANSWER, "a red", "an old"),
        (STORIES, STORY, STORY_ANSWER, "an old", "a old"),
        (STORIES, STORY, STORY_ANSWER, "a red", "an red"),
        (STORIES, STORY, STORY_ANSWER, "a red", "a happy"),
        (STORIES, STORY, STORY_ANSWER, "saw", "slept"),
        (STORIES, STORY, STORY_ANSWER, "she liked", "he liked"),
        (STORIES, STORY, STORY_ANSWER, "hill", "river"),
        (STORIES, STORY, STORY_ANSWER, "July", "May"),
        (STORIES, STORY, STORY_ANSWER, "Mia was after Ben", "Ben was after Mia"),
        (STORIES, STORY, STORY_ANSWER, "\nMia was after Ben.", ""),
        (STORIES, STORY, STORY_ANSWER, STORY_ANSWER, ""),
    ],
)
def test_wrong_answers_are_refused(task: Task, prompt: str, answer: str, old: str, new: str) -> None:
    assert old in answer
    assert not task.solves(prompt, answer.replace(old, new))


@pytest.mark.parametrize("task", LONG_TASKS, ids=lambda task: task.name)
def test_what_is_drawn_is_solved_and_no_line_can_be_missed(task: Task) -> None:
    for case in cases_of(task, 40):
        lines = case.answer.split("\n")
        assert task.solves(case.prompt, case.answer)
        for index in range(len(lines)):
            assert not task.solves(case.prompt, "\n".join(lines[:index] + lines[index + 1 :]))


def test_chains_have_the_values_that_python_works_out() -> None:
    operations = {"+": operator.add, "-": operator.sub}
    for case in cases_of(CHAINS, 40):
        left = dict(line.split(":") for line in case.prompt.split("\n")[1:-2])
        values: dict[str, int] = {}
        while left:
            ready = next(name for name, text in left.items() if text.isdigit() or text[0] in values)
            text = left.pop(ready)
            values[ready] = int(text) if text.isdigit() else operations[text[1]](values[text[0]], int(text[2:]))
        assert values == {name: int(value) for name, value in re.findall(r"(\w)=(\d+)", case.answer)}
        for equation in re.findall(r"(\d+[-+]\d),\w=(\d+)", case.answer):
            terms = re.split(r"([-+])", equation[0])
            assert operations[terms[1]](int(terms[0]), int(terms[2])) == ast.literal_eval(equation[1])


@pytest.mark.parametrize("task", LONG_TASKS, ids=lambda task: task.name)
def test_answers_are_long_and_of_known_tokens(task: Task) -> None:
    """Each word is one token and the longest answer leaves room for the end of the text."""
    tokenizer = load_tokenizer(bundled(TINY))
    lengths = []
    for case in cases_of(task, 200):
        encoding = tokenizer.encode(case.answer)
        lengths.append(len(encoding.ids))
        words = re.findall(r" ?[A-Za-z]+|\d|[^\w ]| (?=\d)", case.prompt + case.answer)
        assert len(tokenizer.encode(case.prompt + case.answer).ids) == len(words)
        assert tokenizer.decode(encoding.ids) == case.answer
    assert np.mean(lengths) > 100
    assert max(lengths) < task.new_tokens


@pytest.mark.parametrize("task", LONG_TASKS, ids=lambda task: task.name)
def test_held_out_cases_are_not_trained_on(task: Task) -> None:
    held_out, others = ({given(case) for case in cases_of(task, 100, held_out=flag)} for flag in (True, False))
    assert not held_out & others
    assert len(held_out) == len(others) == 100


@pytest.mark.parametrize("task", LONG_TASKS, ids=lambda task: task.name)
def test_a_share_is_held_out_by_what_is_given(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, bool] = {}

    def text_held_out(text: str) -> bool:
        seen[text] = holdout.text_held_out(text)
        return seen[text]

    monkeypatch.setattr(long_tasks, "text_held_out", text_held_out)
    for case in cases_of(task, 60, held_out=True):
        assert seen["\n".join(sorted(given(case)))]
    assert 0.5 / HELD_OUT_SHARE < np.mean(list(seen.values())) < 2 / HELD_OUT_SHARE


@pytest.mark.parametrize("name", list(BEGINNINGS))
def test_training_begins_with_short_cases_of_the_same_kind(name: str) -> None:
    task = next(task for task in LONG_TASKS if name == f"short {task.name}")
    short = BEGINNINGS[name](np.random.default_rng(7), 40)
    assert all(task.solves(case.prompt, case.answer) for case in short)
    assert max(len(given(case)) for case in short) < min(len(given(case)) for case in cases_of(task, 40))


def test_long_and_short_tasks_are_told_apart() -> None:
    assert set(LONG) | set(SHORT) == set(TASKS)
    assert not set(LONG) & set(SHORT)
    assert LONG == ("chains", "sorting", "stories")

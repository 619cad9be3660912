"""The tasks of the tiny networks, scored through the runtime: held-out cases, asked as they were trained."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from dream_edge.tasks import COUNTDOWN, SUDOKU, scoring
from dream_edge.tasks.scoring import Options, Scores, complete
from dream_edge.tasks.task import Task
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import chat_ids
from tools.tiny import questions, sentences
from tools.tiny.long_tasks import LONG_TASKS
from tools.tiny.texts import messages_of

OnDone = Callable[[int], object]
"""Called with how many cases of a task are done."""


def _silent(_done: int) -> None:
    pass


class Solve(Protocol):
    """Has a model solve so many cases of a task, generating by `options`."""

    def __call__(self, model: DreamModel, count: int, options: Options, progress: OnDone = ...) -> Scores: ...


def _solve(task: Task) -> Solve:
    def solve(model: DreamModel, count: int, options: Options, progress: OnDone = _silent) -> Scores:
        return scoring.solve(model, task, count, shots=0, options=options, progress=progress)

    return solve


def solve_questions(model: DreamModel, count: int, options: Options, progress: OnDone = _silent) -> Scores:
    """Answers of at most 48 tokens in conversations of one to three turns."""
    cases = questions.generate(np.random.default_rng(3), count, held_out=True)
    prompts = [chat_ids(model.tokenizer, messages_of(case.prompt)) for case in cases]
    results = complete(model, prompts, 48, options, progress)
    return Scores.of(
        results, [questions.solves(case.prompt, each.text) for case, each in zip(cases, results, strict=True)]
    )


def solve_sentences(model: DreamModel, count: int, options: Options, progress: OnDone = _silent) -> Scores:
    """Sentences in which one to four words, anywhere, are to be found."""
    rng = np.random.default_rng(4)
    cases = sentences.generate(rng, count, held_out=True)
    templates = [with_holes(model, case.text, 1 + index % 4, rng) for index, case in enumerate(cases)]
    results = []
    for template in templates:
        results.append(model.fill(template, bos=True, **options))
        progress(len(results))
    return Scores.of(results, [sentences.solves(result.text) for result in results])


TASKS: Mapping[str, Solve] = {
    "Sudoku": _solve(SUDOKU),
    "Countdown": _solve(COUNTDOWN),
    "sentences": solve_sentences,
    "questions": solve_questions,
    **{task.name: _solve(task) for task in LONG_TASKS},
}
LONG = tuple(task.name for task in LONG_TASKS)
"""Texts of 100 to 250 tokens."""
SHORT = tuple(name for name in TASKS if name not in LONG)
"""What the bundled networks have learnt."""


def with_holes(model: DreamModel, text: str, holes: int, rng: np.random.Generator) -> str:
    """`text` with so many of its words, drawn at random, replaced by holes of their size."""
    words = list(re.finditer(r" ?[A-Za-z]+", text))
    chosen = sorted(rng.choice(len(words), size=min(holes, len(words)), replace=False).tolist(), reverse=True)
    for index in chosen:
        word = words[index]
        text = f"{text[: word.start()]}[[{model.count_tokens(word.group())}]]{text[word.end() :]}"
    return text

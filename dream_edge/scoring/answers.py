"""Asking for answers in batches, and keeping them in a file, so that an interrupted score goes on where it was."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dream_edge_runtime.errors import DreamEdgeError
from dream_edge_runtime.files.lines import Lines, open_lines

from ..tasks.asking import Form, fill_forms, write_question
from ..tasks.scoring import complete, fit_examples
from ..tasks.task import Case, Task
from .settings import Setting

if TYPE_CHECKING:
    from dream_edge_runtime.model import DreamModel

_BATCH = 16
_BATCH_SECONDS = 10.0  # what an interruption loses


class UnreadableAnswers(DreamEdgeError, ValueError):
    """The file of kept answers holds something else."""

    def __init__(self, path: Path, line: int) -> None:
        super().__init__(
            f"{path}: line {line} is no answer that `dream-edge score` kept. Name another file for --keep."
        )


@dataclass(frozen=True)
class Answer:
    """What a model wrote: the text, the passes it took, and the tokens it keeps."""

    text: str
    passes: int
    tokens: int


@dataclass(frozen=True)
class Question:
    """A case as it is asked: the ids before the answer, and the answer's form where it is given."""

    case: Case
    prompt: tuple[int, ...]
    form: Form | None
    stop: tuple[str, ...]
    """What comes after an answer in plain text, where examples lead a model to write another one."""


def write_questions(
    model: DreamModel, task: Task, count: int, shots: int, *, chat: bool, holes: bool
) -> list[Question]:
    """The first `count` held-out cases of `task`, after `shots` examples, or as many as the context holds."""
    cases = task.generate(np.random.default_rng(task.seed), count, held_out=True)
    examples = fit_examples(model, task, cases, shots, chat=chat)
    return [
        Question(
            case,
            tuple(write_question(model.tokenizer, task, case, examples, chat=chat)),
            Form.of(model.tokenizer, task, case) if holes else None,
            () if chat else ("\n\n",),
        )
        for case in cases
    ]


class Kept:
    """The answers that a file holds, each by a digest of all that it depends on."""

    def __init__(self, lines: Lines | None = None) -> None:
        self._lines = lines
        self._answers: dict[str, Answer] = {}
        if lines is None:
            return
        for number, data in enumerate(lines.there, 1):
            try:
                entry = json.loads(data)
                answer = Answer(str(entry["text"]), int(entry["passes"]), int(entry["tokens"]))
                self._answers[str(entry["key"])] = answer
            except (ValueError, TypeError, KeyError):
                raise UnreadableAnswers(lines.path, number) from None

    def find(self, key: str) -> Answer | None:
        return self._answers.get(key)

    def add(self, key: str, task: Task, setting: Setting, question: Question, answer: Answer) -> None:
        self._answers[key] = answer
        if self._lines is not None:
            about = {"key": key, "task": task.name, "setting": setting.name, "prompt": question.case.prompt}
            entry = {**about, "text": answer.text, "passes": answer.passes, "tokens": answer.tokens}
            self._lines.add(json.dumps(entry, ensure_ascii=False).encode())


@contextmanager
def open_kept(path: Path | None) -> Iterator[Kept]:
    """The answers in the file `path`, which grows as they come; without one they are forgotten.

    Raises:
        UnreadableAnswers: it holds something else.
        OutputBusy, NotWritable: as of `open_lines`.
    """
    if path is None:
        yield Kept()
        return
    with open_lines(path) as lines:
        yield Kept(lines)


def find_answers(
    model: DreamModel,
    digest: str,
    task: Task,
    setting: Setting,
    questions: Sequence[Question],
    kept: Kept,
    progress: Callable[[int, float], object] = lambda _texts, _seconds: None,
) -> list[Answer]:
    """Answers to `questions` decoded by `setting`: kept ones, and the others from the model, whose `digest` names it.

    `progress` is told of answers that are there, and of the seconds that they took together.
    """
    keys = [_key(model, digest, task, setting, question) for question in questions]
    pending = [index for index, key in enumerate(keys) if kept.find(key) is None]
    if done := len(keys) - len(pending):
        progress(done, 0.0)
    size = 1
    while pending:
        batch, pending = pending[:size], pending[size:]
        start = time.perf_counter()
        for index, answer in zip(batch, _ask(model, task, setting, [questions[at] for at in batch]), strict=True):
            kept.add(keys[index], task, setting, questions[index], answer)
        seconds = time.perf_counter() - start
        size = max(1, min(_BATCH, int(_BATCH_SECONDS * len(batch) / max(seconds, 1e-6))))
        progress(len(batch), seconds)
    found = [kept.find(key) for key in keys]
    return [answer for answer in found if answer is not None]


def _ask(model: DreamModel, task: Task, setting: Setting, questions: Sequence[Question]) -> list[Answer]:
    config, prompts = setting.settle(model), [list(question.prompt) for question in questions]
    forms = [question.form for question in questions if question.form is not None]
    if forms:
        results = fill_forms(model, prompts, forms, config)
    else:
        results = complete(model, prompts, task.new_tokens, {"config": config, "stop": questions[0].stop})
    return [Answer(result.text, result.passes, result.new_tokens) for result in results]


def _key(model: DreamModel, digest: str, task: Task, setting: Setting, question: Question) -> str:
    about = (digest, task.new_tokens, setting.settle(model), question.prompt, question.form, question.stop)
    return hashlib.sha256(repr(about).encode()).hexdigest()[:32]

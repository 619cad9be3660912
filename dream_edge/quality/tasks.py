"""What quantization cost in task scores: the same held-out cases for the reference and an artifact, in pairs."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from dream_edge.tasks.scoring import TASKS, Options, mcnemar, paired_error, wilson
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.progress import Meter, OnProgress, silent
from dream_edge_runtime.text.tokenizer import Tokenizer

from ..models import resolve_artifact
from .errors import TasksNotLearnt
from .task_report import TaskComparison, TaskResult, TaskScores
from .texts.tiny import tiny_texts

CASES = 100
"""Of each task. The standard error of a difference is about √(share of cases that differ / cases)."""

OFFICIAL: Options = {"exact": True, "seed": 0}
"""The official loop with the checkpoint's own settings."""


def score_tasks(
    model: DreamModel,
    name: str,
    *,
    cases: int = CASES,
    options: Options = OFFICIAL,
    progress: OnProgress = silent,
) -> TaskScores:
    """Have `model` solve `cases` cases of each of the four tasks; the same cases for every model.

    The reference is scored in the runtime's own loop too: see `dream_edge_export.reference.in_memory.reference_model`.

    Args:
        name: what the model is called in results and errors.
        options: how to generate, as keywords of `DreamModel.generate`.
        progress: called as cases are done.

    Raises:
        TasksNotLearnt: the model has another vocabulary than the tiny Dream, which alone has learnt these tasks.
        InvalidOption.
    """
    if isinstance(cases, bool) or not isinstance(cases, int) or cases < 1:
        raise InvalidOption("cases", cases, "must be an integer of at least 1")
    check_learnt(model.tokenizer, name)
    solved: dict[str, str] = {}

    meter = Meter(progress, f"solving tasks with {name}", len(TASKS) * cases, "cases")

    def count(done: int) -> None:
        meter.reach(len(solved) * cases + done)

    for task, solve in TASKS.items():
        scores = solve(model, cases, options, count)
        solved[task] = "".join("01"[right] for right in scores.solved.tolist())
    return TaskScores(model=name, solved=solved)


def compare_tasks(reference: TaskScores, artifact: TaskScores) -> TaskComparison:
    """Set the scores of an artifact against those of its reference, case by case; as many cases for both."""
    pairs = {task: (_flags(reference.solved[task]), _flags(artifact.solved[task])) for task in reference.solved}
    together = tuple(np.concatenate(side) for side in zip(*pairs.values(), strict=True))
    return TaskComparison(
        artifact=artifact.model,
        overall=_result("all", *together),
        tasks=tuple(_result(task, *pair) for task, pair in pairs.items()),
    )


def check_learnt(tokenizer: Tokenizer, name: str) -> None:
    """Raise `TasksNotLearnt` for the vocabulary of a model that cannot know the tasks."""
    tiny, probe = _tiny_vocabulary()
    if tokenizer.vocab_size != tiny.vocab_size or tokenizer.encode(probe) != tiny.encode(probe):
        raise TasksNotLearnt(name)


@cache
def _tiny_vocabulary() -> tuple[Tokenizer, str]:
    """The tiny Dream's tokenizer, and a text of its world that no other splits alike."""
    texts = tiny_texts(cases=2)
    probe = "\n".join(text if isinstance(text, str) else text.answer for text in texts)
    return Artifact.open(resolve_artifact("tiny")).tokenizer(), probe


def _result(task: str, reference: NDArray[np.bool_], artifact: NDArray[np.bool_]) -> TaskResult:
    cases = len(reference)
    return TaskResult(
        task=task,
        cases=cases,
        reference=float(reference.mean()),
        reference_interval=wilson(int(reference.sum()), cases),
        artifact=float(artifact.mean()),
        artifact_interval=wilson(int(artifact.sum()), cases),
        difference=float(artifact.mean() - reference.mean()),
        difference_se=paired_error(reference, artifact),
        lost=int((reference & ~artifact).sum()),
        gained=int((artifact & ~reference).sum()),
        p_value=mcnemar(reference, artifact),
    )


def _flags(solved: str) -> NDArray[np.bool_]:
    return np.array([flag == "1" for flag in solved])

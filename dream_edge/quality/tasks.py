"""What quantization cost in task scores: the same held-out cases for the reference and an artifact, in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dream_edge.tasks import TASKS
from dream_edge.tasks.scoring import OFFICIAL, Options, solve
from dream_edge.tasks.task import SHOTS
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.generation.option import Integer
from dream_edge_runtime.progress import Meter, OnProgress, silent

from ..models import is_tiny
from .measure.estimates import mcnemar, mean_error, wilson
from .trajectory.follow import reference_network

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_runtime.model import DreamModel

CASES = 100
"""Of each task. The standard error of a difference is about √(share of cases that differ / cases)."""


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """Which held-out cases a model solved: of each task a string of as many 0 and 1. It was shown `shots` examples."""

    model: str
    shots: int
    solved: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """One task, or all together. Shares between 0 and 1.

    reference, artifact: share of the cases that each solved, and its 95 % confidence interval (Wilson).
    difference: artifact - reference; difference_se is its standard error over the cases, which are paired.
    lost, gained: cases that only the reference solved, and only the artifact.
    p_value: two-sided, of McNemar's exact test; how often a difference this large arises when there is none.
    """

    task: str
    cases: int
    reference: float
    reference_interval: tuple[float, float]
    artifact: float
    artifact_interval: tuple[float, float]
    difference: float
    difference_se: float
    lost: int
    gained: int
    p_value: float


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """An artifact's scores against its reference's."""

    artifact: str
    shots: int
    """Solved examples before each question."""
    overall: TaskResult
    tasks: tuple[TaskResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def usual_shots(checkpoint: Checkpoint) -> int:
    """How many examples a model of `checkpoint` is shown: as in Dream's own evaluation; none for the tiny Dream, which
    was trained on bare questions."""
    return 0 if is_tiny(checkpoint) else SHOTS


def check_task_options(tasks: Sequence[str], cases: int, shots: int | None) -> None:
    """Raise InvalidOption for an unknown task, or a number that does not fit."""
    for task in tasks:
        if isinstance(tasks, str) or task not in TASKS:
            raise InvalidOption("tasks", tasks if isinstance(tasks, str) else task, f"must be of {', '.join(TASKS)}")
    for option, value, least in (("cases", cases, 1), ("shots", shots, 0)):
        if value is not None:
            Integer(least).convert(option, value)


def score_tasks(
    model: DreamModel,
    name: str,
    *,
    tasks: Sequence[str] = tuple(TASKS),
    cases: int = CASES,
    shots: int = SHOTS,
    options: Options = OFFICIAL,
    together: bool = False,
    progress: OnProgress = silent,
) -> TaskScores:
    """Have `model` solve `cases` cases of each of `tasks`; the same cases for every model.

    Args:
        name: what the model is called in results.
        tasks: of `dream_edge.tasks.TASKS`.
        shots: solved examples in each prompt; fewer where the model's context does not hold as many.
        options: how to generate, as keywords of `DreamModel.generate`.
        together: all cases of a task in one batch, for a reference that is read from the disk for every pass.
        progress: called as cases are done.

    Raises InvalidOption for an unknown task, or a number that does not fit.
    """
    check_task_options(tasks, cases, shots)
    solved: dict[str, str] = {}
    meter = Meter(progress, f"solving tasks with {name}", len(tasks) * cases, "cases")
    for task in tasks:
        before = len(solved) * cases
        scores = solve(
            model,
            TASKS[task],
            cases,
            shots=shots,
            options=options,
            together=together,
            progress=lambda done, before=before: meter.reach(before + done),  # type: ignore[misc]
        )
        solved[task] = "".join("01"[right] for right in scores.solved.tolist())
    return TaskScores(model=name, shots=shots, solved=solved)


def reference_model(checkpoint: Checkpoint) -> DreamModel:
    """The full-precision network, decoded by the runtime's own loop.

    A large one is read from the disk for every pass, 15 GB for 7B: score it with `together`.
    """
    from dream_edge_export.reference import networks

    return networks.reference_model(checkpoint, reference_network(checkpoint))


def compare_tasks(reference: TaskScores, artifact: TaskScores) -> TaskComparison:
    """Set the scores of an artifact against those of its reference, case by case; as many cases for both."""
    pairs = {task: (_flags(reference.solved[task]), _flags(artifact.solved[task])) for task in reference.solved}
    together = tuple(np.concatenate(side) for side in zip(*pairs.values(), strict=True))
    return TaskComparison(
        artifact=artifact.model,
        shots=artifact.shots,
        overall=_result("all", *together),
        tasks=tuple(_result(task, *pair) for task, pair in pairs.items()),
    )


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
        difference_se=mean_error([*(artifact.astype(np.float64) - reference)[:, None]]),
        lost=int((reference & ~artifact).sum()),
        gained=int((artifact & ~reference).sum()),
        p_value=mcnemar(reference, artifact),
    )


def _flags(solved: str) -> NDArray[np.bool_]:
    return np.array([flag == "1" for flag in solved])

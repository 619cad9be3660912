"""Task scores in `dream-edge compare`: measured, and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .terminal.io import aligned
from .terminal.progress import progress

if TYPE_CHECKING:
    from dream_edge.quality import Comparison
    from dream_edge.quality.task_report import TaskComparison, TaskResult, TaskScores
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.model import DreamModel


def check_learnt(artifacts: Sequence[Artifact]) -> None:
    """Raise TasksNotLearnt for an artifact whose model cannot know the tasks, before anything is computed."""
    from dream_edge.quality.tasks import check_learnt as check

    for artifact in artifacts:
        check(artifact.tokenizer(), artifact.path.name)


def with_task_scores(
    comparisons: Sequence[Comparison],
    artifacts: Sequence[Artifact],
    checkpoint: Checkpoint,
    *,
    cases: int,
    threads: int | None,
) -> list[Comparison]:
    """The comparisons of `artifacts`, with their scores beside those of `checkpoint` in full precision."""
    from dream_edge import load
    from dream_edge.quality.tasks import compare_tasks
    from dream_edge_export.reference.in_memory import reference_model

    reference = _scored(checkpoint.path.name, lambda: reference_model(checkpoint), cases)
    found = []
    for comparison, artifact in zip(comparisons, artifacts, strict=True):
        scores = _scored(artifact.path.name, lambda path=artifact.path: load(path, threads=threads), cases)  # type: ignore[misc]
        found.append(replace(comparison, tasks=compare_tasks(reference, scores)))
    return found


def _scored(name: str, load: Callable[[], DreamModel], cases: int) -> TaskScores:
    from dream_edge.quality.tasks import score_tasks
    from dream_edge.tasks.scoring import TASKS

    with progress(f"Tasks for {name}", cases * len(TASKS), lambda done: f"{done:.0f}") as advance:
        return score_tasks(load(), name, cases=cases, progress=lambda done, _: advance(done))


def task_lines(tasks: TaskComparison | None) -> list[str]:
    """One line for each task, and one for all of them; nothing where none was scored."""
    if tasks is None:
        return []
    rows: list[tuple[str, ...]] = [
        ("task", "reference", "95%", "artifact", "95%", "difference", "lost", "gained", "p", "cases")
    ]
    rows += [_line(each) for each in (*tasks.tasks, tasks.overall)]
    return aligned(rows)


def _line(result: TaskResult) -> tuple[str, ...]:
    return (
        result.task,
        f"{result.reference:.1%}",
        _interval(result.reference_interval),
        f"{result.artifact:.1%}",
        _interval(result.artifact_interval),
        f"{100 * result.difference:+.1f} ± {100 * result.difference_se:.1f} points",
        f"{result.lost}",
        f"{result.gained}",
        f"{result.p_value:.2g}",
        f"{result.cases}",
    )


def _interval(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}"

"""Comparisons of made-up artifacts, for what shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dream_edge.quality.comparison import Comparison
from dream_edge.quality.measure.differences import Differences
from dream_edge.quality.measure.figures import figures
from dream_edge.quality.report.contents import ReportEntry
from dream_edge.quality.tasks import TaskComparison, TaskResult
from dream_edge.quality.trajectory.agreement import Flips, FlipsAt, FreeRun, SampleTexts, Share, TrajectoryFigures


def make_comparison(name: str = "int8", kl: float = 0.001, same_top: float = 1.0, **changed: Any) -> Comparison:
    """20 sequences of 50 positions in five bins, all with this KL, and this share of positions with the same token."""
    same = np.arange(50) < round(50 * same_top)
    loss = np.linspace(0.1, 3, 50)
    found = figures([(index % 5, Differences(np.full(50, kl), same, loss, loss + kl)) for index in range(20)], 5)
    made = Comparison(overall=found.overall, bins=found.bins, artifact=name, scheme="int8", seed=0)
    return replace(made, **changed)


def make_entry(
    comparison: Comparison | None = None, *, size: int = 1000, bits: float = 8.0, memory: int = 10**6
) -> ReportEntry:
    return ReportEntry(comparison=comparison or make_comparison(), size=size, bits=bits, memory=memory)


def make_trajectory(*samples: SampleTexts, algorithm: str = "entropy") -> TrajectoryFigures:
    share = Share(0.02, 0.005, 100)
    flips = Flips(token=share, position=None, any=share)
    return TrajectoryFigures(
        algorithm=algorithm,
        steps=None,
        sequences=4,
        flips=flips,
        by_step=tuple(FlipsAt(part / 5, (part + 1) / 5, flips) for part in range(5)),
        by_position=(),
        free_run=FreeRun(
            same_tokens=share,
            same_texts=share,
            diverged=share,
            first_divergence=(3, None),
            median_divergence=3.0,
            divergence_histogram=(1, 0, 0, 0, 0),
        ),
        samples=samples,
    )


def make_tasks(reference: float, artifact: float, p_value: float, cases: int = 200) -> TaskComparison:
    result = TaskResult(
        task="sudoku",
        cases=cases,
        reference=reference,
        reference_interval=(0.0, 1.0),
        artifact=artifact,
        artifact_interval=(0.0, 1.0),
        difference=artifact - reference,
        difference_se=0.01,
        lost=2,
        gained=1,
        p_value=p_value,
    )
    return TaskComparison(artifact="int8", shots=8, overall=replace(result, task="all"), tasks=(result,))

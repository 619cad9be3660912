"""Task scores of an artifact beside its reference's, as plain figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


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

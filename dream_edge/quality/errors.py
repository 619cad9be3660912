"""What can be wrong with a comparison before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from dream_edge_runtime.errors import DreamEdgeError, InvalidOption


class CompareError(DreamEdgeError, ValueError):
    """The comparison cannot be made."""


class MismatchedModels(CompareError):
    def __init__(self, artifact: Path, checkpoint: Path, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        super().__init__(
            f"{artifact} was not exported from {checkpoint}: {'; '.join(differences)} (artifact / checkpoint). "
            "Name the checkpoint that the artifact was made from."
        )


class NoData(CompareError):
    def __init__(self, source: Path | str, why: str = "there is no text in it") -> None:
        super().__init__(f"{source}: {why}. Give texts of at least one token each, or none for the built-in ones.")


class UnreadableData(CompareError, OSError):
    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: {why}. Give a UTF-8 .txt file (texts between blank lines) or a .jsonl file "
            '({"text": "..."} or {"messages": [...]} on each line).'
        )


def thousandth_above(bits: float) -> float:
    return math.ceil(bits * 1000) / 1000


class BudgetOutOfRange(InvalidOption):
    def __init__(self, bits: float, least: float, most: float) -> None:
        self.least, self.most = thousandth_above(least), thousandth_above(most)
        requirement = (
            f"must lie between {self.least} and {self.most}, which the measured formats take at least and at most"
        )
        super().__init__("bits", bits, requirement)


class NoRecipeTexts(DreamEdgeError, ValueError):
    def __init__(self, checkpoint: Path) -> None:
        super().__init__(
            f"{checkpoint}: there are no texts to choose its recipe by. Give some with `dream-edge sensitivity --data "
            "FILE`, other than those that the artifact will be compared on."
        )


class MeasurementsUnfit(DreamEdgeError, ValueError):
    """A file of measured sensitivities that cannot be used here."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}. Measure this checkpoint with `dream-edge sensitivity`, into a new file.")


class TasksNotLearnt(CompareError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: the tasks are those that the bundled tiny Dream was trained on, and this model has another "
            "vocabulary. Measure it on lm-evaluation-harness's tasks instead: python -m dream_edge.evaluation "
            "(docs/quality.md), which needs dream-edge[eval]."
        )

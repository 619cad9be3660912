"""What can be wrong with a comparison before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from dream_edge_runtime.errors import DreamEdgeError, InvalidOption


class CompareError(DreamEdgeError, ValueError):
    """The comparison cannot be made."""


class MismatchedModels(CompareError):
    """What is compared has another vocabulary or geometry; `differences` lists them."""

    def __init__(self, artifact: Path, checkpoint: Path | str, differences: Sequence[str]) -> None:
        self.differences: tuple[str, ...] = tuple(differences)
        super().__init__(
            f"{artifact} was not exported from {checkpoint}: {'; '.join(differences)} (artifact / checkpoint). "
            "Name the checkpoint that the artifact was made from, or a base of it."
        )


class NoData(CompareError):
    """The texts hold nothing that could be masked."""

    def __init__(self, source: Path | str, why: str = "there is no text in it") -> None:
        super().__init__(f"{source}: {why}. Give texts of at least one token each, or none for the built-in ones.")


class UnreadableData(CompareError, OSError):
    """A file of texts cannot be read, or a line of it is no text."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(
            f"{path}: {why}. Give a UTF-8 .txt file (texts between blank lines) or a .jsonl file "
            '({"text": "..."}, {"prompt": "...", "completion": "..."} or {"messages": [...]} on each line).'
        )


def thousandth_above(bits: float) -> float:
    """`bits` rounded up to three places, as errors name them."""
    return math.ceil(bits * 1000) / 1000


class BudgetOutOfRange(InvalidOption):
    """No choice of formats has this few bits, or none has this many."""

    def __init__(self, bits: float, least: float, most: float) -> None:
        self.least: float = thousandth_above(least)
        self.most: float = thousandth_above(most)
        requirement = (
            f"must lie between {self.least} and {self.most}, which the measured formats take at least and at most"
        )
        super().__init__("bits", bits, requirement)


class MeasurementsUnfit(DreamEdgeError, ValueError):
    """A file of measured sensitivities that cannot be used here."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}. Measure this checkpoint with `dream-edge sensitivity`, into a new file.")


class MismatchedBase(CompareError):
    """The base is of another checkpoint, or of other texts."""

    def __init__(self, base: Path, checkpoint: Path) -> None:
        super().__init__(
            f"{base} holds the predictions of another checkpoint than {checkpoint}. Name the one it was made from, or "
            "make a base of this one: --reference CHECKPOINT --save-base FILE."
        )


class NonFiniteReference(CompareError, ArithmeticError):
    """The full-precision network computed something that is not a number."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(
            f"{checkpoint}: the full-precision network gives logits that are not numbers (NaN or infinite). "
            "The checkpoint is damaged: download it again."
        )


# --- base files ------------------------------------------------------------------------------------------------------


class BaseNotFound(CompareError, FileNotFoundError):
    """There is no base of that name."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: no base file here. Make one: --reference CHECKPOINT --save-base {path}.")


class CorruptBase(CompareError, OSError):
    """A base is damaged."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: {why}. It is no base file, or a damaged or incomplete one: make it again "
            "(--reference CHECKPOINT --save-base FILE)."
        )


class UnsupportedBase(CompareError):
    """A base is of a newer format."""

    def __init__(self, path: Path, version: str, newest: str) -> None:
        super().__init__(
            f"{path}: version {version} of base files is not one that this release reads (1.0 to {newest}). "
            "Use the release that wrote it, or make the base again."
        )


class OtherBase(CompareError, FileExistsError):
    """A base is not replaced by another."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is there and holds something else than the base that was asked for. Compare with it as it is "
            "(--base FILE), name another file, or remove it."
        )


class ReportForeign(CompareError, FileExistsError):
    """A report does not replace anything but an earlier report."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"{directory} holds something else than a report, which is not touched. Name a new directory, or one that "
            "holds an earlier report and nothing more."
        )

"""What can be wrong with a comparison before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dream_edge_runtime.errors import DreamEdgeError


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

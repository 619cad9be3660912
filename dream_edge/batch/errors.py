"""What can be wrong with a batch as a whole; what is wrong with one request stands in its own line."""

from __future__ import annotations

from pathlib import Path

from dream_edge_runtime.errors import DreamEdgeError


class BatchError(DreamEdgeError, ValueError):
    """The batch cannot be made."""


class UnreadableBatch(BatchError, OSError):
    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: {why}. Each line is one request: "
            '{"custom_id": "1", "url": "/v1/chat/completions", "body": {"messages": [...]}}'
        )


class MismatchedResults(BatchError):
    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{path}: line {line} {why}. Name another file for the results, or remove this one.")


class ResultsNotWritable(BatchError, OSError):
    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be written ({why}). What it holds stays; run the same command again.")

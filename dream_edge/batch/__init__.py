"""Many requests from a file, answers into another: OpenAI's batch format, on this machine."""

from __future__ import annotations

from .errors import BatchError, MismatchedResults, UnreadableBatch
from .requests import count_requests
from .run import BatchProgress, run_batch

__all__ = ["BatchError", "BatchProgress", "MismatchedResults", "UnreadableBatch", "count_requests", "run_batch"]

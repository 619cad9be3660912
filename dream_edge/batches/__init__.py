"""Many requests from a file, answers into another: OpenAI's batch format, on this machine or over a Ray cluster."""

from __future__ import annotations

from .errors import (
    BatchError,
    ClusterFailed,
    ClusterUnreachable,
    MismatchedResults,
    NoRoomOnCluster,
    UnreadableBatch,
    WorkerUnfit,
)
from .ray_engine import RayEngine
from .requests import count_requests
from .run import BatchSummary, Engine, LocalEngine, batch, run_batch
from .source import Source

__all__ = [
    "BatchError",
    "BatchSummary",
    "ClusterFailed",
    "ClusterUnreachable",
    "Engine",
    "LocalEngine",
    "MismatchedResults",
    "NoRoomOnCluster",
    "RayEngine",
    "Source",
    "UnreadableBatch",
    "WorkerUnfit",
    "batch",
    "count_requests",
    "run_batch",
]

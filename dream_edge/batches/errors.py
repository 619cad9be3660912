"""What can be wrong with a batch as a whole; the error of one request stands in its own line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dream_edge.openai.errors import RequestRefused
from dream_edge_runtime.errors import DreamEdgeError


class BatchError(DreamEdgeError, ValueError):
    """The batch cannot be made."""


class UnreadableBatch(BatchError, OSError):
    """The file of requests cannot be read, or a line of it is no request."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: {why}. Each line is one request: "
            '{"custom_id": "1", "url": "/v1/chat/completions", "body": {"messages": [...]}}'
        )


class MismatchedResults(BatchError):
    """The file of results holds answers to other requests."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{path}: line {line} {why}. Name another file for the results, or remove this one.")


class ClusterUnreachable(BatchError, ConnectionError):
    """Ray is not there, or does not start."""

    def __init__(self, address: str | None, why: str) -> None:
        if address is None:
            super().__init__(f"Ray does not start here ({why}). Answer the batch without it: --engine local.")
        else:
            super().__init__(
                f"there is no Ray cluster to join at {address} ({why}). Run this on one of its machines, with the "
                "address that `ray start` printed, or without an address for a cluster of this machine alone."
            )


class NoRoomOnCluster(BatchError, RuntimeError):
    """No machine of the cluster can hold a worker."""

    def __init__(self, wanted: str, machines: Sequence[str]) -> None:
        there = "; ".join(machines) or "no machine"
        super().__init__(
            f"the cluster has no room for {wanted}. It has: {there}. Ask for fewer workers (--workers) or threads "
            "(--threads), name an artifact with a smaller scheme, or add machines."
        )


class WorkerUnfit(BatchError, RuntimeError):
    """A machine of the cluster cannot load the model, or has a different one."""

    def __init__(self, host: str, why: str) -> None:
        super().__init__(f"on {host}: {why} The answers so far are kept; mend it and run the same command again.")


class ClusterFailed(BatchError, RuntimeError):
    """The cluster ended, or its machines differ."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the Ray cluster failed ({why.strip()}). Every machine of it needs the same versions of dream-edge "
            "and Ray; Ray's logs (/tmp/ray/session_latest/logs) say more. The answers so far are kept; run the same "
            "command again."
        )


class EndsWorkers(RequestRefused):
    """Stands in the request's own line."""

    def __init__(self, workers: int) -> None:
        super().__init__(
            f"{workers} workers ended while they computed it, probably for want of memory. Ask for fewer tokens "
            "(max_tokens) or texts (n), or let fewer workers share a machine (--workers).",
            status=500,
            code="worker_lost",
        )

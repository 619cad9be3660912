"""The engine for many machines: workers on a Ray cluster.

The cluster is there already, or is one of this machine alone that ends with the batch. Ray is imported inside functions
only, since some of its settings are read when it is imported.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dream_edge_runtime.errors import InvalidOption, MissingExtra
from dream_edge_runtime.host import default_threads

from .answers import Answer
from .errors import ClusterUnreachable
from .placement import Machine, place
from .requests import Remaining
from .source import Source

_QUIET = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its C++ half writes to the terminal otherwise
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # a stack trace for a SIGTERM
    "RAY_USAGE_STATS_ENABLED": "0",  # sends what it finds out about the machine to Ray's makers
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's switch for clusters of several machines, whatever the system: without them it listens on 127.0.0.1 only."""
_OBJECTS = 1 << 28
"""Bytes for requests and answers on their way. Ray would keep a third of the memory for them: it is the models'."""


@dataclass(frozen=True, kw_only=True)
class RayEngine:
    """Answers in the order in which they come. Requests on a worker that is lost are computed again on another.

    Attributes:
        served: what the model is called in requests.
        workers: how many; by default one on each machine, or for each GPU.
        threads: of each worker; by default as many as there is room for.
        address: of a cluster that this machine belongs to, HOST:PORT or "auto"; None starts one here for the batch.

    Raises:
        InvalidOption, MissingExtra.
    """

    source: Source
    served: str
    workers: int | None = None
    threads: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidOption(name, value, "must be at least 1")
        if self.address is not None and "://" in self.address:
            raise InvalidOption("address", self.address, 'must be HOST:PORT, or "auto" on a machine of the cluster')
        if find_spec("ray") is None:  # before anything is written
            raise _missing_ray()

    def answers(self, remaining: Remaining) -> Generator[Answer, None, None]:
        """Raises MissingExtra, ClusterUnreachable, NoRoomOnCluster, WorkerUnfit and ClusterFailed."""
        digest, memory = self.source.digest(), self.source.memory()
        cores = default_threads() or os.cpu_count() or 1
        with _connect(self.address, max(cores, (self.workers or 1) * (self.threads or 1))):
            from .ray_dataset import compute_answers

            gpus = int(self.source.device == "cuda")
            placement = place(_machines(), workers=self.workers, threads=self.threads, gpus=gpus, memory=memory)
            yield from compute_answers(remaining, self.source, digest, self.served, placement)


@contextmanager
def _connect(address: str | None, cpus: int) -> Iterator[None]:
    """Connect to the cluster at `address` while the block runs; None starts one here, with `cpus` processors.

    A session of Ray's that this process has open already is used as it is, and left open.

    Raises:
        MissingExtra, ClusterUnreachable.
    """
    for name, value in {**_QUIET, **(_LOOPBACK if address is None else {})}.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data  # noqa: F401 - an attribute of ray from now on
    except ImportError:
        raise _missing_ray() from None

    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # its own lines and bars; what goes wrong is raised
    opens = not ray.is_initialized()
    try:
        if opens:
            _start(address, cpus)
        yield
    finally:
        if opens:
            ray.shutdown()
        logger.setLevel(level)


def _start(address: str | None, cpus: int) -> None:
    import ray

    here: dict[str, Any] = {}
    if address is None:
        here = {"num_cpus": cpus, "object_store_memory": _OBJECTS, "include_dashboard": False}
    try:
        if address is not None and address != "auto":  # where nobody listens, Ray would spend minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        with _hide_stderr():
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **here)
    except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise ClusterUnreachable(address, str(error).strip().split("\n")[0]) from error


@contextmanager
def _hide_stderr() -> Iterator[None]:
    """While it starts, Ray's C++ half says on descriptor 2, past all settings, that its log level was set."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _machines() -> list[Machine]:
    """The machines of the cluster that are up, with what they have in total."""
    import ray

    resources: list[Mapping[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [
        Machine(cpus=each.get("CPU", 0), gpus=each.get("GPU", 0), memory=each.get("memory", 0)) for each in resources
    ]


def _missing_ray() -> MissingExtra:
    return MissingExtra("Answering batches over Ray", "ray")

"""The engine for many machines: a Ray cluster, how many workers it has room for, and their answers.

The cluster is there already, or is one of this machine alone that ends with the batch. Ray is imported inside functions
only, since some of its settings are read when it is imported.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dream_edge_runtime.errors import InvalidOption, MissingExtra
from dream_edge_runtime.host import default_threads

from .answers import Answer
from .errors import ClusterUnreachable, NoRoomOnCluster
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


# --- how many workers, and with how many threads each ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine has to give: processors, GPUs, bytes of memory."""

    cpus: float
    gpus: float
    memory: float

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus:g} CPU{gpus}, {self.memory / 1e9:.1f} GB"


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What one worker takes: a processor for each thread, whole GPUs, bytes of memory (0 = not counted)."""

    threads: int
    gpus: int
    memory: int

    def count_on(self, machine: Machine) -> int:
        """How many such workers `machine` has room for."""
        most = machine.cpus // self.threads
        if self.gpus:
            most = min(most, machine.gpus // self.gpus)
        if self.memory:
            most = min(most, machine.memory // self.memory)
        return int(most)

    def __str__(self) -> str:
        gpus = f", {self.gpus} GPU" if self.gpus else ""
        memory = f", {self.memory / 1e9:.1f} GB" if self.memory else ""
        return f"{self.threads} thread{'s' * (self.threads > 1)}{gpus}{memory} each"


@dataclass(frozen=True)
class Placement:
    """So many workers of one kind."""

    workers: int
    each: Worker


def place(
    machines: Sequence[Machine], *, workers: int | None, threads: int | None, gpus: int, memory: int
) -> Placement:
    """Find room for `workers`: by default one on each machine that can hold one, or one for each GPU.

    They get `threads` each, by default as many as there is room for.

    Raises:
        NoRoomOnCluster: there is less.
    """
    least = Worker(threads=threads or 1, gpus=gpus, memory=memory)
    room = [least.count_on(machine) for machine in machines]
    count = workers or (sum(room) if gpus else sum(each > 0 for each in room))
    if not 0 < count <= sum(room):
        raise NoRoomOnCluster(f"{max(count, 1)} workers of {least}", [str(machine) for machine in machines])
    if threads is not None:
        return Placement(count, least)
    most = int(max(machine.cpus for machine in machines))
    wider = (replace(least, threads=number) for number in range(most, 0, -1))
    return Placement(count, next(each for each in wider if sum(map(each.count_on, machines)) >= count))


# --- the cluster -----------------------------------------------------------------------------------------------------


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
        import ray.data
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

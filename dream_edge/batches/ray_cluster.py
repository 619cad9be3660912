"""A Ray cluster: one that is there already, or one of this machine alone that ends with the batch.

Ray is imported inside functions only, since some of its settings are read when it is imported.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dream_edge_runtime.errors import MissingExtra

from .errors import ClusterUnreachable
from .placement import Machine

_QUIET = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its C++ half writes to the terminal otherwise
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # a stack trace for a SIGTERM
    "RAY_USAGE_STATS_ENABLED": "0",  # sends what it finds out about the machine to Ray's makers
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's switch for clusters of several machines, whatever the system: without them it listens on 127.0.0.1 only."""
_OBJECTS = 1 << 28
"""Bytes for requests and answers on their way. Ray would keep a third of the memory for them: it is the models'."""


def missing_ray() -> MissingExtra:
    return MissingExtra("Answering batches over Ray", "ray")


@contextmanager
def joined(address: str | None, cpus: int) -> Iterator[None]:
    """Ray, connected to the cluster at `address` while the block runs; None starts one here, with so many `cpus`.

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
        raise missing_ray() from None

    with _without_console():
        if ray.is_initialized():
            yield
            return
        try:
            _connect(address, cpus)
            yield
        finally:
            ray.shutdown()


def machines() -> list[Machine]:
    """Those of the cluster that are up, with what they have in total."""
    import ray

    resources: list[Mapping[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [
        Machine(cpus=each.get("CPU", 0), gpus=each.get("GPU", 0), memory=each.get("memory", 0)) for each in resources
    ]


def _connect(address: str | None, cpus: int) -> None:
    import ray

    here: dict[str, Any] = {}
    if address is None:
        here = {"num_cpus": cpus, "object_store_memory": _OBJECTS, "include_dashboard": False}
    try:
        if address is not None and address != "auto":
            _knock(address)
        with _descriptor_closed():
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **here,
            )
    except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise ClusterUnreachable(address, str(error).strip().split("\n")[0]) from error


def _knock(address: str) -> None:
    """Raises OSError or ValueError where nobody listens at `address`, on which Ray would spend minutes."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


@contextmanager
def _without_console() -> Iterator[None]:
    """Ray Data's own lines and bars off the terminal; what goes wrong is raised."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _descriptor_closed() -> Iterator[None]:
    """While it starts, Ray's C++ half says on descriptor 2, past all settings, that its log level was set."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)

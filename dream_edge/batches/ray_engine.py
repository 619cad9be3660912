"""The engine for many machines: Ray Data, with one model in each worker."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import dream_edge
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.cores import default_threads
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.manifest import MANIFEST
from dream_edge_runtime.format.memory import estimate_memory
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.requantize.artifact import derive_recipe

from .answers import Answer
from .placement import place
from .ray_cluster import joined, machines, missing_ray
from .requests import Remaining


@dataclass(frozen=True, kw_only=True)
class Source:
    """What each worker loads, in the words of `dream_edge.load`. A directory must be the same on every machine.

    Attributes:
        device: "cpu", or "cuda" for a GPU to each worker.
    """

    name: str | Path
    device: str = "cpu"
    as_int8: bool = False
    memory_check: bool = True

    def load(self, threads: int) -> DreamModel:
        """The model, with so many threads for a pass."""
        return dream_edge.load(
            self.name,
            device=self.device,
            threads=threads,
            as_int8=self.as_int8,
            memory_check=self.memory_check,
        )

    def digest(self) -> str:
        """SHA-256 of the manifest, which holds those of all other files."""
        return hashlib.sha256((self._directory() / MANIFEST).read_bytes()).hexdigest()

    def memory(self) -> int:
        """Bytes that a worker takes of its machine's memory; 0 where they are not known or not to be looked at."""
        if self.device != "cpu" or not self.memory_check:
            return 0
        artifact = Artifact.open(self._directory())
        recipe = derive_recipe(artifact) if self.as_int8 else artifact.manifest.recipe
        return estimate_memory(artifact.manifest.config, recipe.targets["cpu"]).total

    def _directory(self) -> Path:
        return dream_edge.resolve_artifact(self.name)


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
        if find_spec("ray") is None:  # said before anything is written
            raise missing_ray()

    def answers(self, remaining: Remaining) -> Generator[Answer, None, None]:
        """Raises MissingExtra, ClusterUnreachable, NoRoomOnCluster, WorkerUnfit and ClusterFailed."""
        digest, memory = self.source.digest(), self.source.memory()
        cores = default_threads() or os.cpu_count() or 1
        with joined(self.address, max(cores, (self.workers or 1) * (self.threads or 1))):
            from .ray_dataset import answered

            placement = place(
                machines(),
                workers=self.workers,
                threads=self.threads,
                gpus=int(self.source.device == "cuda"),
                memory=memory,
            )
            yield from answered(remaining, self.source, digest, self.served, placement)

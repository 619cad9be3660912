"""What an export is going to do, known before it does anything: bytes, places, memory, time."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from dream_edge_runtime.errors import (
    NotEnoughMemory,
    OutputExists,
    OutputForeign,
    OutputInsideCheckpoint,
)
from dream_edge_runtime.format.layout import Layout, Weight, plan_layout, stored_weights, tensor_bytes
from dream_edge_runtime.format.manifest import ARTIFACT_FILES, MANIFEST
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.host import free_memory

from .checkpoint.checkpoint import Checkpoint
from .checkpoint.provenance import version
from .journal import Journal
from .quantize.calibrate import CalibrationSet, Store, calibrated_recipe, check_calibration, costs
from .quantize.weights import LARGEST_STRIP, SLICES_AHEAD, encoded, encoders, rows_of_slice
from .staging import CALIBRATION, JOURNAL, is_occupied, staging_of

DISK_REMEDY = "name a directory on another disk, or choose a smaller scheme (--scheme int4)"
_LIBRARIES = 400 << 20  # resident once PyTorch and the graph builder are imported
_STRIPS = 3  # resident size beside a strip of 0.55 GB: 1.1 to 2.1 GB from run to run, as the allocator has it
_WORKING_BYTES = 16  # for each weight of a slice that is read, encoded or waiting


@dataclass(frozen=True)
class ExportPlan:
    """The weights of an artifact and where each will lie.

    Raises: InvalidOption when the recipe does not fit the checkpoint, or the calibration the recipe.
    """

    checkpoint: Checkpoint
    recipe: Recipe
    calibration: CalibrationSet | None = None

    def __post_init__(self) -> None:
        self.recipe.check(self.checkpoint.config)
        if self.calibration is not None:
            check_calibration(self.recipe)

    @classmethod
    def of(cls, checkpoint: Checkpoint, recipe: Recipe, calibration: CalibrationSet | None) -> ExportPlan:
        """With a `calibration`, `recipe` gets its name; InvalidOption where one does not fit the other."""
        return cls(checkpoint, recipe if calibration is None else calibrated_recipe(recipe, calibration), calibration)

    @cached_property
    def weights(self) -> list[Weight]:
        return stored_weights(self.checkpoint.config, self.recipe)

    @cached_property
    def layout(self) -> Layout:
        return plan_layout(self.checkpoint.config, self.recipe)

    @property
    def read_bytes(self) -> int:
        """What is read of the checkpoint; a matrix that two graphs store differently is read twice."""
        return sum(self.checkpoint.nbytes(weight.source) for weight in self.weights)

    def read_bytes_of(self, count: int) -> int:
        """What was read of the checkpoint once the first `count` tensors are written."""
        return self.read_bytes - sum(self.checkpoint.nbytes(weight.source) for weight in self.weights_after(count))

    def weights_after(self, count: int) -> Iterator[Weight]:
        """The weights whose tensors come after the first `count`."""
        position = 0
        for weight in self.weights:
            if position >= count:
                yield weight
            position += len(weight.specs)

    @property
    def written_bytes(self) -> int:
        """Bytes of the shards, exactly."""
        return sum(self.layout.sizes().values())

    @property
    def memory(self) -> int:
        """The most that is going to be resident, libraries included."""
        largest, slices = 0, _WORKING_BYTES * (SLICES_AHEAD + torch.get_num_threads())
        for weight in self.weights:
            if weight.format is None:
                continue
            outputs, inputs = self.checkpoint.shape(weight.source)
            sizes = [tensor_bytes(spec) for spec in weight.specs]
            held = sum(sizes[1:]) + (_STRIPS * min(sizes[0], LARGEST_STRIP) if weight.format.kind == "row" else 0)
            largest = max(largest, held + slices * min(outputs, rows_of_slice(inputs)) * inputs)
        calibrating = costs.memory(self.checkpoint.config) if self.calibration else 0
        return _LIBRARIES + max(largest, calibrating)

    def calibration_seconds(self) -> float:
        """A rough guess of what the whole calibration takes."""
        return costs.seconds(self.checkpoint.config, self.calibration.tokens) if self.calibration else 0.0

    @property
    def calibration_disk(self) -> int:
        """The most bytes that the calibration has on disk, beside the artifact."""
        if self.calibration is None:
            return 0
        return costs.disk(self.checkpoint.config, self.recipe, self.calibration.tokens)

    @property
    def key(self) -> str:
        """Tells this work from other work: what is read, what is made of it, and by which program."""
        work = {
            "files": [
                (file.path.name, file.stamp.size, file.stamp.modified_ns, dict(file.entries))
                for file in self.checkpoint.tensor_files
            ],
            "config": self.checkpoint.config.to_dict(),
            "recipe": asdict(self.recipe),
            "calibration": self.calibration.digest if self.calibration else None,
            "tools": (version(), _program(), torch.__version__, np.__version__),
        }
        return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()

    def finished_bytes(self, out: Path) -> int:
        """Bytes of the shards that an earlier run of the same work has left for `out`."""
        finished = Journal(staging_of(out) / JOURNAL, self.key).finished
        return sum(self.layout.sizes(finished.count).values())

    def kept_bytes(self, out: Path) -> int:
        """The same, with what an earlier calibration of the same work has finished."""
        calibration = staging_of(out) / CALIBRATION
        kept = Store(calibration).stored_bytes if self.calibration and Store.is_of(calibration, self.key) else 0
        return self.finished_bytes(out) + kept

    def seconds(self) -> float:
        """A rough guess, from one matrix of the first layer that is read, encoded and hashed here and now."""
        weight = next(weight for weight in self.weights if weight.name.endswith("self_attn.q_proj"))
        with encoders() as pool:
            for _ in range(2):  # the first time wakes threads and fills caches
                start = time.perf_counter()
                for _, array in encoded(self.checkpoint, weight, pool):
                    hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return (time.perf_counter() - start) / self.checkpoint.nbytes(weight.source) * self.read_bytes


def _program() -> str:
    """Digest of this package's own text: half of an artifact by one revision of it and half by another is neither."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


# --- checks before anything is written -------------------------------------------------------------------------------


def check_output(checkpoint: Checkpoint, out: Path, *, force: bool) -> None:
    """Raises OutputInsideCheckpoint, OutputExists, OutputForeign."""
    if checkpoint.path.resolve() in out.resolve().parents:
        raise OutputInsideCheckpoint(out, checkpoint.path)
    if is_occupied(out):
        if not force:
            raise OutputExists(out)
        if not _is_artifact(out):
            raise OutputForeign(out)


def check_memory(needed: int) -> None:
    """Raises NotEnoughMemory when the system says that less than `needed` bytes are available."""
    available = free_memory()
    if available is not None and available < needed:
        raise NotEnoughMemory(needed, available)


def _is_artifact(out: Path) -> bool:
    """Whether `out` holds a manifest and a graph, and nothing but files that an export writes."""
    if not out.is_dir() or out.is_symlink():
        return False
    entries = list(out.iterdir())
    return (
        (out / MANIFEST).is_file()
        and any(entry.suffix == ".onnx" for entry in entries)
        and all(entry.is_file() and ARTIFACT_FILES.fullmatch(entry.name) for entry in entries)
    )

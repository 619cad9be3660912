"""The plan of an export, known before it does anything: bytes, places, memory, time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from dream_edge_runtime.format.layout import Bundle, Layout, plan_layout, stored_weights, tensor_bytes
from dream_edge_runtime.format.manifest import ARTIFACT_FILES, MANIFEST
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.format.tensors import matrix_shapes
from dream_edge_runtime.host import free_memory, installed_version

from .checkpoint.checkpoint import Checkpoint
from .errors import NotEnoughMemory, OutputExists, OutputForeign, OutputInsideCheckpoint
from .output.journal import Journal
from .output.staging import CALIBRATION, JOURNAL, is_occupied, list_files, locate_staging
from .quantize.calibrate import CalibrationSet, Store, costs, name_rounding
from .quantize.weights import LARGEST_STRIP, SLICES_AHEAD, count_slice_rows

DISK_REMEDY = "name a directory on another disk, or choose a smaller scheme (--scheme int4)"
_LIBRARIES = 400 << 20  # resident once PyTorch is imported
_STRIPS = 3  # resident size beside a strip of 0.55 GB: 1.1 to 2.1 GB from run to run, as the allocator has it
_WORKING_BYTES = 16  # for each weight of a slice that is read, encoded or waiting


@dataclass(frozen=True)
class ExportPlan:
    """All that an export reads, writes and needs. Make one with `plan_export`.

    Attributes:
        recipe: with the name of its rounding, where there is a calibration.
        bundles: what the artifact stores, in order.
        read_bytes: of the checkpoint, for each bundle; what two graphs store differently is read twice.
        layout: the place of each tensor.
        memory: the most bytes that are going to be resident, libraries included.
        calibration_disk: the most bytes that the calibration has on disk, beside the artifact.
        key: tells this work from other work: what is read, what is made of it, and by which program.
    """

    checkpoint: Checkpoint
    recipe: Recipe
    calibration: CalibrationSet | None
    bundles: tuple[Bundle, ...]
    read_bytes: tuple[int, ...]
    layout: Layout
    memory: int
    calibration_disk: int
    key: str

    @cached_property
    def written_bytes(self) -> int:
        """Bytes of the shards, exactly."""
        return sum(self.layout.sizes().values())

    def remaining(self, count: int) -> list[tuple[Bundle, int]]:
        """The bundles whose tensors come after the first `count`, and what is read for each."""
        ends = accumulate(sum(len(weight.specs) for weight in bundle) for bundle in self.bundles)
        return [
            (bundle, size) for bundle, size, end in zip(self.bundles, self.read_bytes, ends, strict=True) if end > count
        ]

    def finished_bytes(self, out: Path) -> int:
        """Bytes of the shards that an earlier run of the same work has left for `out`."""
        finished = Journal(locate_staging(out) / JOURNAL, self.key).finished
        return sum(self.layout.sizes(finished.count).values())

    def kept_bytes(self, out: Path) -> int:
        """The same, with what an earlier calibration of the same work has finished."""
        calibration = locate_staging(out) / CALIBRATION
        kept = Store(calibration).stored_bytes if self.calibration and Store.is_of(calibration, self.key) else 0
        return self.finished_bytes(out) + kept


def plan_export(checkpoint: Checkpoint, recipe: Recipe, calibration: CalibrationSet | None = None) -> ExportPlan:
    """Plan an export. InvalidOption if the recipe does not fit the checkpoint, or the calibration the recipe."""
    config, disk = checkpoint.config, 0
    recipe = recipe.fit(config)
    recipe.check(config)
    if calibration is not None:
        recipe = name_rounding(recipe, calibration)
        disk = costs.estimate_disk(config, recipe, calibration.tokens)
    bundles = tuple(stored_weights(config, recipe))
    return ExportPlan(
        checkpoint,
        recipe,
        calibration,
        bundles,
        tuple(sum(checkpoint.nbytes(weight.source) for weight in bundle) for bundle in bundles),
        plan_layout(config, recipe),
        _estimate_memory(config, bundles, calibrates=calibration is not None),
        disk,
        _identify(checkpoint, recipe, calibration),
    )


def _estimate_memory(config: ModelConfig, bundles: Sequence[Bundle], *, calibrates: bool) -> int:
    largest, slices = 0, _WORKING_BYTES * (SLICES_AHEAD + torch.get_num_threads())
    shapes = matrix_shapes(config)
    for bundle in bundles:
        held = sum(tensor_bytes(spec) for weight in bundle for spec in weight.specs[1:])
        for weight in bundle:
            if weight.format is not None:
                outputs, inputs = shapes[weight.name]
                strip = 0 if weight.format.joins else min(tensor_bytes(weight.specs[0]), LARGEST_STRIP)
                encoding = slices * min(outputs, count_slice_rows(inputs)) * inputs
                largest = max(largest, held + _STRIPS * strip + encoding)
    return _LIBRARIES + max(largest, costs.estimate_memory(config) if calibrates else 0)


def _identify(checkpoint: Checkpoint, recipe: Recipe, calibration: CalibrationSet | None) -> str:
    work = {
        "files": [
            (file.path.name, file.stamp.size, file.stamp.modified_ns, dict(file.entries))
            for file in checkpoint.tensor_files
        ],
        "config": checkpoint.config.to_dict(),
        "recipe": asdict(recipe),
        "calibration": calibration.digest if calibration else None,
        "tools": (installed_version(), _hash_program(), torch.__version__, np.__version__),
    }
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


def _hash_program() -> str:
    """Digest of this package's own text: half of an artifact by one revision of it and half by another is neither."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


# --- checks before anything is written -------------------------------------------------------------------------------


def check_output(checkpoint: Checkpoint, out: Path, *, force: bool) -> None:
    """Raises OutputInsideCheckpoint, OutputExists, OutputForeign."""
    # not by name: one directory has several where case does not count, or names have short forms
    if any(each.is_dir() and each.samefile(checkpoint.path) for each in out.resolve().parents):
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
    entries = list_files(out)
    return (
        (out / MANIFEST).is_file()
        and any(entry.suffix == ".onnx" for entry in entries)
        and all(entry.is_file() and ARTIFACT_FILES.fullmatch(entry.name) for entry in entries)
    )

"""Messages of an export to the log: what it is going to take, and how to resume one that was stopped."""

from __future__ import annotations

import hashlib
import logging
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dream_edge_runtime.errors import OutputBusy
from dream_edge_runtime.files.writing import free_disk
from dream_edge_runtime.format.tensors import parameter_count
from dream_edge_runtime.graph.layers import HEADROOM
from dream_edge_runtime.units import counted, duration, number, size

from .output.staging import locate_staging
from .plan import ExportPlan
from .quantize.calibrate import costs
from .quantize.weights import encode_weight, open_encoders

_log = logging.getLogger(__name__)


def announce(plan: ExportPlan, out: Path) -> None:
    """Log sizes, memory and a guess of the time, once it is known that the export can begin."""
    if (cuda := plan.recipe.targets.get("cuda")) and cuda.body.kind == "nf4":
        _log.warning("NF4 is slow on a GPU, where each product expands its weights to fp16. Use int4: it is as small.")
    if not _log.isEnabledFor(logging.INFO):  # guessing the time takes some
        return
    parameters = number(parameter_count(plan.checkpoint.config))
    files = counted(len(plan.checkpoint.files), "file")
    _log.info("%s: %s parameters in %s", plan.checkpoint.path, parameters, files)
    if plan.calibration is not None:
        _log.info(
            "Calibrating on %s: it takes up to %s of disk meanwhile and very roughly %s",
            plan.calibration,
            size(plan.calibration_disk),
            duration(costs.estimate_seconds(plan.checkpoint.config, plan.calibration.tokens)),
        )
    if kept := plan.kept_bytes(out):
        _log.info("Resuming after the %s that an earlier run left in %s", size(kept), locate_staging(out))
    left = 1 - plan.finished_bytes(out) / plan.written_bytes
    _log.info(
        "Writing %s as %s to %s, where %s are free; it takes %s of memory and about %s",
        size(plan.written_bytes),
        plan.recipe.scheme,
        out,
        size(free_disk(out)),
        size(plan.memory),
        duration(_estimate_seconds(plan) * left),
    )


def _estimate_seconds(plan: ExportPlan) -> float:
    """A rough guess, from one matrix of the first layer that is read, encoded and hashed here and now."""
    at = next(index for index, bundle in enumerate(plan.bundles) if bundle[0].name.endswith("self_attn.o_proj"))
    with open_encoders() as pool:
        for _ in range(2):  # the first time wakes threads and fills caches
            start = time.perf_counter()
            for _, array in encode_weight(plan.checkpoint, plan.bundles[at][0], pool):
                hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return (time.perf_counter() - start) / plan.read_bytes[at] * sum(plan.read_bytes)


def tell_largest_values(largest: Mapping[str, float]) -> None:
    """Log how near the network comes to the end of fp16, in which CUDA multiplies; see `Store.largest_values`."""
    _log.info(
        "Seen on the masked texts: |silu(gate) · up| up to %.5g, |down_proj| up to %.5g. A graph for CUDA holds %.5g.",
        largest["silu_gate_up"],
        largest["down_proj"],
        HEADROOM["cuda"] * float(np.finfo(np.float16).max),
    )


@contextmanager
def tell_what_is_kept(plan: ExportPlan, out: Path) -> Iterator[None]:
    """Log how to resume the export, or to give it up, if it does not reach its end."""
    try:
        yield
    except OutputBusy:  # what lies there belongs to the other export
        raise
    except BaseException:
        if kept := plan.kept_bytes(out):
            _log.info("%s are finished and kept: the same command resumes there. To give them up:", size(kept))
            _log.info("  %s", shlex.join(["rm", "-r", str(locate_staging(out))]))
        raise

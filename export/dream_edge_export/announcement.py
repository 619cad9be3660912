"""What an export tells the log: what it is going to take, and what is left of one that was stopped."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dream_edge_runtime.errors import OutputBusy
from dream_edge_runtime.files.writing import free_disk
from dream_edge_runtime.format.tensors import parameter_count
from dream_edge_runtime.units import counted, duration, number, size

from .plan import ExportPlan
from .staging import staging_of

_log = logging.getLogger(__name__)


def announce(plan: ExportPlan, out: Path) -> None:
    """Log sizes, memory and a guess of the time, once it is known that the export can begin."""
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
            duration(plan.calibration_seconds()),
        )
    if kept := plan.kept_bytes(out):
        _log.info("Resuming after the %s that an earlier run left in %s", size(kept), staging_of(out))
    left = 1 - plan.finished_bytes(out) / plan.written_bytes
    _log.info(
        "Writing %s as %s to %s, where %s are free; it takes %s of memory and about %s",
        size(plan.written_bytes),
        plan.recipe.scheme,
        out,
        size(free_disk(out)),
        size(plan.memory),
        duration(plan.seconds() * left),
    )


@contextmanager
def tell_what_is_kept(plan: ExportPlan, out: Path) -> Iterator[None]:
    """Where the export does not reach its end, log how to resume it and how to give it up."""
    try:
        yield
    except OutputBusy:  # what lies there belongs to the other export
        raise
    except BaseException:
        if kept := plan.kept_bytes(out):
            _log.info("%s are finished and kept: the same command resumes there. To give them up:", size(kept))
            _log.info("  %s", shlex.join(["rm", "-r", str(staging_of(out))]))
        raise

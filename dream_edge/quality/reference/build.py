"""Compute reference predictions: the full-precision network, streamed from its checkpoint, in files beside the base.

    .NAME.partial/lock      held by the process that works there; the system releases it when that process dies
    .NAME.partial/journal   how many steps are finished: the stages of the network, then rows of log-probabilities
    .NAME.partial/stage-N   hidden states, see `StagedReference`
    .NAME.partial/base      becomes NAME when it is whole

An interrupted call resumes after the last finished step, and gives the same bytes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dream_edge_export.errors import CheckpointChanged, NonFiniteWeights
from dream_edge_export.output.journal import Finished, Journal
from dream_edge_runtime.files.lock import hold_lock
from dream_edge_runtime.files.writing import (
    check_disk,
    explain_write_errors,
    move,
    open_to_append,
    remove_tree,
    sync_directory,
    write_all,
)
from dream_edge_runtime.host import installed_version
from dream_edge_runtime.progress import Meter, OnProgress, silent

from ..errors import CompareError, NonFiniteReference, OtherBase
from ..texts.masking import Evaluation
from .base import Base, checksums, head_of_file
from .file import About, encode

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.reference.bf16 import Rounding
    from dream_edge_export.reference.staged import StagedReference

_ROWS_ENCODED = 32  # of a vocabulary of 152064: 19 MB an array

_USELESS = (CheckpointChanged, NonFiniteWeights, NonFiniteReference)  # what was finished by then is of no use
_REMEDY = "Name a writable place with enough free space; what was finished is kept, and the same command resumes there."
_LESS = "name a file on another disk (--save-base), or measure less (--sequences, --longest)"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BasePlan:
    """What making a base takes, known before it begins."""

    checkpoint: Checkpoint
    evaluation: Evaluation

    @cached_property
    def head(self) -> bytes:
        """The beginning of the file: what it says of its checkpoint, and the evaluation."""
        from dream_edge_export.checkpoint.provenance import fingerprint

        drawn = self.evaluation
        about = About(
            checkpoint=self.checkpoint.path.resolve().name,
            fingerprint=fingerprint(self.checkpoint),
            config=self.checkpoint.config,
            bins=drawn.bins,
            longest=drawn.longest,
            seed=drawn.seed,
            data=drawn.data,
        )
        return head_of_file(about, drawn)

    @property
    def file_bytes(self) -> int:
        """Of the finished base."""
        return self.bytes_of(self.evaluation.rows) + 4 * self.evaluation.rows

    def bytes_of(self, rows: int) -> int:
        """Of a base up to the codes of its first `rows`."""
        return len(self.head) + 2 * self.checkpoint.config.vocab_size * rows

    @property
    def working_bytes(self) -> int:
        """On disk while it is made: the base and the hidden states after two stages."""
        return self.file_bytes + 2 * 4 * self.checkpoint.config.hidden_size * self.evaluation.tokens

    @property
    def key(self) -> str:
        """Tells this work from other work: what is computed, and by which programs."""
        import torch

        files = [(file.path.name, *file.stamp[2:]) for file in self.checkpoint.tensor_files]
        tools = (installed_version(), torch.__version__, np.__version__)
        return hashlib.sha256(self.head + repr((files, tools)).encode()).hexdigest()

    def is_made(self, path: Path) -> bool:
        """Whether the base is at `path`, whatever else is kept with it. Raises OtherBase if that is anything else."""
        if not os.path.lexists(path):
            return False
        try:
            base = Base.open(path)
        except CompareError:
            raise OtherBase(path) from None
        if head_of_file(replace(base.about, extras={}), base.evaluation) != self.head:
            raise OtherBase(path)
        return True


def build_base(
    checkpoint: Checkpoint,
    evaluation: Evaluation,
    path: Path,
    *,
    progress: OnProgress = silent,
) -> Base:
    """Evaluate `checkpoint` in full precision and keep what it says in the file `path`.

    One layer is in memory at a time. A base of the same checkpoint and evaluation that is there already is returned as
    it is. What an interrupted call had finished is kept beside `path`, and the same call resumes there.

    Raises: OtherBase, OutputBusy, NotEnoughDisk (before anything is written), NotWritable, NonFiniteReference,
        CheckpointError.
    """
    path = Path(path).absolute()
    plan = BasePlan(checkpoint, evaluation)
    if not plan.is_made(path):
        try:
            with explain_write_errors(path, _REMEDY):
                _make(plan, path, progress)
        except BaseException:
            if (working := working_directory(path)).is_dir():
                _log.info("What is finished is kept: the same command resumes there. To give it up, remove it:")
                _log.info("  %s", shlex.join(["rm", "-r", str(working)]))
            raise
    return Base.open(path)


def stage_reference(
    checkpoint: Checkpoint, evaluation: Evaluation, directory: Path, rounding: Rounding | None = None
) -> StagedReference:
    """The network to evaluate, whose states lie in `directory`."""
    from dream_edge_export.reference.staged import StagedReference

    passages = evaluation.passages
    canvases, rows = [each.canvas for each in passages], [each.asked_rows(checkpoint.config) for each in passages]
    return StagedReference(checkpoint, canvases, rows, directory, rounding=rounding)


@contextmanager
def temporary_base(checkpoint: Checkpoint, evaluation: Evaluation, *, progress: OnProgress = silent) -> Iterator[Base]:
    """A base that is gone after the block: in the directory for temporary files, which TMPDIR names."""
    with tempfile.TemporaryDirectory(prefix="dream-edge-") as directory:
        yield build_base(checkpoint, evaluation, Path(directory) / "base", progress=progress)


def working_directory(path: Path) -> Path:
    """Where the base at `path` is made."""
    path = path.absolute()
    return path.with_name(f".{path.name}.partial")


def _make(plan: BasePlan, path: Path, progress: OnProgress) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = working_directory(path)
    with hold_lock(directory / "lock", path):
        try:
            there = sum(file.stat().st_size for file in directory.iterdir())
            check_disk(path.parent, plan.working_bytes - there, _LESS)
            _fill(plan, directory, progress)
        except BaseException as error:
            if isinstance(error, _USELESS) or not Journal(directory / "journal", plan.key).finished.count:
                remove_tree(directory)
            raise
        if not plan.is_made(path):  # by another process meanwhile
            move(directory / "base", path)
            sync_directory(path.parent)
        remove_tree(directory)
    if os.name == "nt":  # a lock cannot be removed while it is held there
        remove_tree(directory)


def _fill(plan: BasePlan, directory: Path, progress: OnProgress) -> None:
    """Leave the whole base in `directory`, after what an earlier run left there."""
    reference = stage_reference(plan.checkpoint, plan.evaluation, directory)
    stages = reference.stages
    with _resume(plan, reference, directory) as journal:
        finished = journal.finished.count
        done = reference.work_before(min(finished, stages), max(0, finished - stages))
        layers = Meter(progress, "computing the reference", reference.work, "layers", done=done)
        for stage in range(finished, stages):
            reference.run(stage, layers.reach)
            journal.record(Finished(stage + 1))
            reference.forget(stage)
        _write_rows(plan, reference, directory / "base", journal, layers)


def _resume(plan: BasePlan, reference: StagedReference, directory: Path) -> Journal:
    """The journal of this very work, empty unless all that it speaks of is there."""
    journal = Journal(directory / "journal", plan.key)
    rows, base = journal.finished.count - reference.stages, directory / "base"
    is_sound = reference.is_there(min(journal.finished.count, reference.stages) - 1) and (
        rows <= 0 or (base.is_file() and base.stat().st_size >= plan.bytes_of(rows))
    )
    if is_sound:
        return journal
    for file in directory.iterdir():
        if file.name not in ("lock", "lock.holder"):
            file.unlink()
    return Journal(directory / "journal", plan.key)


def _write_rows(plan: BasePlan, reference: StagedReference, path: Path, journal: Journal, layers: Meter) -> None:
    vocab = plan.checkpoint.config.vocab_size
    done = journal.finished.count - reference.stages
    fd = open_to_append(path, plan.bytes_of(done) if done else 0)
    try:
        if not done:
            write_all(fd, plan.head)
        for logits in reference.logits(done):
            if not np.isfinite(logits).all():
                raise NonFiniteReference(plan.checkpoint.path)
            for first in range(0, len(logits), _ROWS_ENCODED):
                write_all(fd, encode(logits[first : first + _ROWS_ENCODED]).astype("<u2", copy=False).tobytes())
            os.fsync(fd)
            done += len(logits)
            journal.record(Finished(reference.stages + done))
            layers.reach(reference.work_before(reference.stages, done))
        for first in range(0, done, _ROWS_ENCODED):
            count = min(_ROWS_ENCODED, done - first)
            codes = np.fromfile(path, "<u2", count * vocab, offset=plan.bytes_of(first))
            write_all(fd, checksums(codes.reshape(count, -1)).tobytes())
        os.fsync(fd)
    finally:
        os.close(fd)

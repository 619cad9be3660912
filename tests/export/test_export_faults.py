"""Disks that are full or fail, two exports at once, and too little room or memory: said by name, and the next run ends
as if nothing had been."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.errors import NotEnoughMemory, OutputInsideCheckpoint
from dream_edge_export.export import export
from dream_edge_export.output.staging import locate_staging
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import ArtifactError, NotEnoughDisk, NotWritable, OutputBusy
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.progress import Progress
from support.checkpoints import write_checkpoint
from support.processes import run_python
from support.systems import make_link

INT4 = Recipe.for_scheme("int4")
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX limits, signals and mounts")


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setattr("dream_edge_export.export.JOURNAL_EVERY", 0)
    write_checkpoint(tmp_path / "checkpoint", num_hidden_layers=1)
    return Checkpoint.open(tmp_path / "checkpoint")


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def nothing_loads(out: Path) -> bool:
    for directory in (out, locate_staging(out), locate_staging(out) / "artifact"):
        try:
            Artifact.open(directory)
        except ArtifactError:
            continue
        return False
    return True


# --- disks that fail -------------------------------------------------------------------------------------------------


class FailingCall:
    """A function of `os` whose `number`-th call, and all after it, fail."""

    def __init__(self, original: Callable[..., Any], number: int, code: int) -> None:
        self._original, self._number, self._code = original, number, code
        self.calls = 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        if self.calls >= self._number:
            raise OSError(self._code, os.strerror(self._code))
        return self._original(*arguments, **named)


@pytest.mark.parametrize(
    ("function", "code", "stride"),
    [
        ("write", errno.ENOSPC, 29),
        ("fsync", errno.EIO, 19),
        ("ftruncate", errno.EIO, 2),
        pytest.param("write", errno.EIO, 1, marks=pytest.mark.slow),
        pytest.param("fsync", errno.ENOSPC, 1, marks=pytest.mark.slow),
    ],
)
def test_failing_call_is_an_error_after_which_the_export_goes_on(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int, stride: int
) -> None:
    counting = FailingCall(getattr(os, function), sys.maxsize, code)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, counting)
        undisturbed = contents(export(checkpoint, tmp_path / "undisturbed", INT4).path)
    # directories are synced at the end, as well as they can be
    first, last = {"fsync": (2, 3)}.get(function, (2, 0))
    for number in range(first, counting.calls - last + 1, stride):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, FailingCall(getattr(os, function), number, code))
            with pytest.raises(NotWritable, match=os.strerror(code)):
                export(checkpoint, tmp_path / "out", INT4)
        assert nothing_loads(tmp_path / "out")
        assert contents(export(checkpoint, tmp_path / "out", INT4).path) == undisturbed
        assert {entry.name for entry in tmp_path.iterdir()} == {"checkpoint", "out", "undisturbed"}
        shutil.rmtree(tmp_path / "out")


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes meanwhile: a write that would is cut short, and the next one fails."""
    resource = importlib.import_module("resource")
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@posix
def test_file_size_limits(checkpoint: Checkpoint, tmp_path: Path) -> None:
    undisturbed = contents(export(checkpoint, tmp_path / "undisturbed", INT4).path)
    out = tmp_path / "out"
    for limit in (0, 1, 5000, len(undisturbed["weights-00001.bin"]) - 1):
        with files_limited_to(limit), pytest.raises(NotWritable, match=os.strerror(errno.EFBIG)):
            export(checkpoint, out, INT4)
        assert nothing_loads(out)
        assert locate_staging(out).exists() == (limit > 40_000)  # nothing was finished before
    assert contents(export(checkpoint, out, INT4).path) == undisturbed


@posix
def test_disk_that_fills_up(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = contents(export(checkpoint, tmp_path / "undisturbed", INT4).path)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("this system lets no test mount a file system")
    try:
        filler = disk / "filler"
        filler.write_bytes(bytes(300_000))
        with pytest.raises(NotEnoughDisk, match="Make room"):
            export(checkpoint, disk / "out", INT4)
        assert {entry.name for entry in disk.iterdir()} == {"filler"}
        with monkeypatch.context() as patch:  # as if somebody else filled it meanwhile
            patch.setattr("dream_edge_runtime.files.writing.free_disk", lambda _: 1 << 40)
            with pytest.raises(NotWritable, match="No space left"):
                export(checkpoint, disk / "out", INT4)
        assert nothing_loads(disk / "out")
        filler.unlink()
        steps: list[Progress] = []
        assert contents(export(checkpoint, disk / "out", INT4, progress=steps.append).path) == undisturbed
        assert steps[0].done > 0
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


# --- before anything is written --------------------------------------------------------------------------------------


def test_too_little_memory_is_said_first(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dream_edge_export.plan.free_memory", lambda: 100 << 20)
    with pytest.raises(NotEnoughMemory, match=r"0\.10 GB are available"):
        export(checkpoint, tmp_path / "out", INT4)
    assert {entry.name for entry in tmp_path.iterdir()} == {"checkpoint"}


def test_checkpoint_is_recognized_by_another_of_its_names(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows and macOS have several for one directory: in capitals, or short."""
    make_link(tmp_path / "CHECKPOINT", checkpoint.path, target_is_directory=True)
    monkeypatch.setattr(Path, "resolve", Path.absolute)
    with pytest.raises(OutputInsideCheckpoint):
        export(checkpoint, tmp_path / "CHECKPOINT" / "int4", INT4)
    assert not [entry for entry in checkpoint.path.iterdir() if entry.is_dir()]


def test_checkpoint_is_never_written_into(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for out in (checkpoint.path / "int4", tmp_path / "link" / "a" / "b"):
        if out.parent.parent.name == "link":
            make_link(tmp_path / "link", checkpoint.path, target_is_directory=True)
        with pytest.raises(OutputInsideCheckpoint):
            export(checkpoint, out, INT4)
    assert not [entry for entry in checkpoint.path.iterdir() if entry.is_dir()]


# --- two at once -----------------------------------------------------------------------------------------------------

EXPORT = """
import sys
from pathlib import Path
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.errors import OutputBusy
from dream_edge_runtime.format.recipe import Recipe
try:
    export(Checkpoint.open(Path(sys.argv[1])), Path(sys.argv[2]), Recipe.for_scheme("int4"))
except OutputBusy as error:
    print(error.holder)
"""


def test_second_export_to_one_place_is_refused_and_the_first_ends_well(checkpoint: Checkpoint, tmp_path: Path) -> None:
    undisturbed = contents(export(checkpoint, tmp_path / "undisturbed", INT4).path)
    refused: list[str] = []

    def meanwhile(step: Progress) -> None:
        if step.done > step.total / 2 and not refused:
            with pytest.raises(OutputBusy, match=f"process {os.getpid()}") as caught:
                export(checkpoint, tmp_path / "out", INT4)
            run = run_python(EXPORT, checkpoint.path, tmp_path / "out")
            refused.extend([str(caught.value.holder), run.stdout.strip()])

    assert contents(export(checkpoint, tmp_path / "out", INT4, progress=meanwhile).path) == undisturbed
    assert refused == [str(os.getpid())] * 2
    assert {entry.name for entry in tmp_path.iterdir()} == {"checkpoint", "out", "undisturbed"}


def test_lock_of_a_dead_process_is_taken_over(checkpoint: Checkpoint, tmp_path: Path) -> None:
    locate_staging(tmp_path / "out").mkdir()
    (locate_staging(tmp_path / "out") / "lock").write_text("1", "utf-8")  # a process that lives, but does not hold it
    export(checkpoint, tmp_path / "out", INT4)
    assert {entry.name for entry in tmp_path.iterdir()} == {"checkpoint", "out"}

"""Exports into directories that no other can take the place of: mount points, the working directory, images' layers."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.errors import OutputExists, OutputForeign
from dream_edge_export.export import export
from dream_edge_export.output import staging
from dream_edge_export.output.staging import locate_staging
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import ArtifactError, NotEnoughDisk, NotWritable
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.progress import Progress
from support.checkpoints import write_checkpoint
from support.systems import make_pipe

INT4, INT8 = Recipe.for_scheme("int4"), Recipe.for_scheme("int8")
FILES = {"manifest.json", "model_cpu.onnx", "README.md", "tokenizer.json", "weights-00001.bin"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(directory, num_hidden_layers=1)
    return Checkpoint.open(directory)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def mount(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `out` be a mount point: not the directory itself, and nothing from outside, can be renamed there."""
    is_mount, replace, rmdir = os.path.ismount, Path.replace, Path.rmdir

    def guard(original: Callable[..., Any]) -> Callable[..., Any]:
        def moved(path: Path, *targets: Any) -> Any:
            if out in (path, *targets):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            if any((out in path.parents) != (out in Path(target).parents) for target in targets):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            return original(path, *targets)

        return moved

    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == out or is_mount(path))
    monkeypatch.setattr(Path, "replace", guard(replace))
    monkeypatch.setattr(Path, "rmdir", guard(rmdir))


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def scheme_of(out: Path) -> str | None:
    """That of the artifact at `out`, read in full; None if nothing loads there."""
    try:
        artifact = Artifact.open(out)
    except ArtifactError:
        return None
    artifact.verify()
    return artifact.manifest.recipe.scheme


def test_mount_point_is_filled_with_the_same_bytes(
    checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = contents(export(checkpoint, out.parent / "elsewhere", INT4).path)
    mount(out, monkeypatch)
    seen: set[str] = set()
    export(checkpoint, out, INT4, progress=lambda _: seen.update(names(out.parent)))
    assert contents(out) == elsewhere
    assert seen == {"place", "elsewhere"}  # nothing was written beside it


def test_mount_point_of_the_same_file_system_is_known_by_the_table_of_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "with space"
    out.mkdir()
    assert locate_staging(out) == tmp_path / ".with space.partial"
    table = tmp_path / "mountinfo"
    table.write_text(
        f"36 35 98:0 / / rw - ext4 /dev/sda rw\n37 36 98:0 /x {tmp_path}/with\\040space rw - ext4 /dev/sda rw\n",
        "utf-8",
    )
    monkeypatch.setattr(staging, "_MOUNTS", table)
    assert locate_staging(out).parent == out


def test_working_directory_is_filled(checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out)
    artifact = export(checkpoint, Path(), INT4)
    assert names(Path()) == names(out) == FILES
    assert artifact.path == out
    export(checkpoint, Path(), INT8, force=True)
    assert scheme_of(Path()) == "int8"


def test_directory_in_one_that_cannot_be_written_is_filled(
    checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != out.parent and access(path, mode))
    seen: set[str] = set()
    export(checkpoint, out, INT4, progress=lambda _: seen.update(names(out.parent)))
    assert names(out) == FILES
    assert seen == {"place"}


@pytest.mark.parametrize("force", [False, True])
def test_directory_that_turns_out_not_to_move_is_filled(
    checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """A lower layer of a container's image (EXDEV), or a directory that another program on Windows is in."""
    if force:
        export(checkpoint, out, INT8)
    replace, rmdir = Path.replace, Path.rmdir

    def refuse(path: Path, *targets: Path) -> Any:
        if out in (path, *targets):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return replace(path, *targets) if targets else rmdir(path)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(Path, "rmdir", refuse)
    export(checkpoint, out, INT4, force=force)
    assert (names(out), scheme_of(out)) == (FILES, "int4")
    assert names(out.parent) == {"place"}


def test_what_a_file_system_keeps_in_its_root_is_not_in_the_way(checkpoint: Checkpoint, out: Path) -> None:
    (out / "lost+found").mkdir()
    export(checkpoint, out, INT4)
    with pytest.raises(OutputExists):
        export(checkpoint, out, INT8)
    export(checkpoint, out, INT8, force=True)
    assert (names(out), scheme_of(out)) == (FILES | {"lost+found"}, "int8")


@pytest.mark.parametrize("name", ["mine.txt", "README.md"])
def test_mount_point_with_other_files_is_left_alone(
    checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (out / name).write_text("mine", "utf-8")
    mount(out, monkeypatch)
    with pytest.raises(OutputExists):
        export(checkpoint, out, INT4)
    with pytest.raises(OutputForeign):
        export(checkpoint, out, INT4, force=True)
    assert contents(out) == {name: b"mine"}


def test_interrupted_export_into_a_mount_point_resumes(
    checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dream_edge_export.export.JOURNAL_EVERY", 0)
    mount(out, monkeypatch)

    def stop(progress: Progress) -> None:
        if progress.done > progress.total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, out, INT4, progress=stop)
    assert scheme_of(out) is None
    begun: list[float] = []
    export(checkpoint, out, INT4, progress=lambda progress: begun.append(progress.done))
    assert begun[0] > 0
    assert (names(out), scheme_of(out)) == (FILES, "int4")


def test_kill_at_any_moment_of_filling_leaves_the_old_the_new_or_nothing_and_the_same_command_ends_it(
    checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill is an error from which nothing recovers: every later change of the file system fails as well."""
    mount(out, monkeypatch)
    export(checkpoint, out, INT8)
    before, outcomes = contents(out), []
    for number in range(100):
        for old in out.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        for name, data in before.items():
            (out / name).write_bytes(data)
        left = [number]
        with monkeypatch.context() as patch:
            for function in ("replace", "unlink"):
                patch.setattr(Path, function, dying(getattr(Path, function), out, left))
            try:
                export(checkpoint, out, INT4, force=True)
            except NotWritable:
                pass
            else:
                break
        outcomes.append(scheme_of(out))
        if outcomes[-1] is None:  # whatever is begun next, no half of an artifact is in its way
            with pytest.raises(KeyboardInterrupt):
                export(checkpoint, out, INT8, progress=interrupt)
        export(checkpoint, out, INT4, force=outcomes[-1] is not None)
        assert (names(out), scheme_of(out)) == (FILES, "int4")
    assert outcomes[:2] == ["int8", "int8"]  # until the new one is whole
    assert set(outcomes) == {"int8", None}
    assert len(outcomes) >= 2 * len(FILES) - 1


def interrupt(_: Progress) -> None:
    raise KeyboardInterrupt


def dying(original: Callable[..., Any], out: Path, left: list[int]) -> Callable[..., Any]:
    """`original`, which fails once it was called as often as `left` says for files in `out` itself."""

    def call(path: Path, *arguments: Any, **named: Any) -> Any:
        if out in (path.parent, *(Path(each).parent for each in arguments)) or left[0] < 0:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(path, *arguments, **named)

    return call


def test_room_is_looked_for_on_the_disk_that_is_mounted_there(
    checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount(out, monkeypatch)
    usage = namedtuple("usage", "total used free")
    small = lambda path: usage(1, 1, 1000 if out in (Path(path), *Path(path).parents) else 1 << 40)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", small)
    with pytest.raises(NotEnoughDisk):
        export(checkpoint, out, INT4)
    assert names(out) == set()


def test_pipe_or_device_at_the_goal_is_not_replaced(checkpoint: Checkpoint, tmp_path: Path) -> None:
    make_pipe(tmp_path / "pipe")
    with pytest.raises(OutputExists):
        export(checkpoint, tmp_path / "pipe", INT4)
    with pytest.raises(OutputForeign):
        export(checkpoint, tmp_path / "pipe", INT4, force=True)


@pytest.mark.parametrize("is_mount", [False, True])
def test_files_that_came_while_it_was_exporting_are_left_alone(
    checkpoint: Checkpoint, out: Path, monkeypatch: pytest.MonkeyPatch, is_mount: bool
) -> None:
    if is_mount:
        mount(out, monkeypatch)

    def save_notes(progress: Progress) -> None:
        if progress.done == progress.total:
            (out / "notes.txt").write_text("mine")

    with pytest.raises(OutputExists):
        export(checkpoint, out, INT4, progress=save_notes)
    assert (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    export(checkpoint, out, INT4)  # resumes
    assert (names(out), scheme_of(out)) == (FILES, "int4")

from __future__ import annotations

import errno
import importlib
import logging
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from dream_edge_runtime.errors import OutputBusy
from dream_edge_runtime.files.lock import hold_lock

posix = pytest.mark.skipif(os.name == "nt", reason="a file that is open cannot be removed there")


def test_lock_is_held_once_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "d" / "lock"
    with hold_lock(path, tmp_path):
        with pytest.raises(OutputBusy, match=f"process {os.getpid()} is writing") as caught, hold_lock(path, tmp_path):
            pass
        assert caught.value.holder == os.getpid()
    with hold_lock(path, tmp_path):
        pass


@posix
def test_lock_whose_file_was_removed_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "d" / "lock"
    with hold_lock(path, tmp_path):
        shutil.rmtree(path.parent)
        with hold_lock(path, tmp_path), pytest.raises(OutputBusy), hold_lock(path, tmp_path):
            pass


@posix
def test_lock_whose_file_goes_between_opening_and_locking_it_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl: Any = importlib.import_module("fcntl")
    path, flock, removed = tmp_path / "d" / "lock", fcntl.flock, list[Path]()

    def remove_first(fd: int, operation: int) -> None:
        if not removed:
            removed.append(path)
            shutil.rmtree(path.parent)
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with hold_lock(path, tmp_path):
        assert path.exists()
        with pytest.raises(OutputBusy), hold_lock(path, tmp_path):
            pass


def test_a_holder_that_died_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "lock.holder").write_text("1", "utf-8")  # a process that lives, but does not hold it
    with hold_lock(tmp_path / "lock", tmp_path):
        assert (tmp_path / "lock.holder").read_text("utf-8") == str(os.getpid())
    assert not (tmp_path / "lock.holder").exists()


@posix
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_there_are_no_locks_the_work_goes_on_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    path = tmp_path / "d" / "lock"
    with caplog.at_level(logging.WARNING), warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        for _ in range(2):  # nothing of the first is in the way of the second
            with hold_lock(path, tmp_path / "out"):
                assert path.parent.is_dir()
    assert [each.getMessage() for each in caplog.records] == [
        f"The file system of {tmp_path / 'out'} has no locks: let no other process write there."
    ] * 2
    assert not others


@posix
def test_lock_that_is_refused_for_another_reason_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), hold_lock(tmp_path / "lock", tmp_path):
        pass

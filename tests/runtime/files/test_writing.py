from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from dream_edge_export.errors import CheckpointChanged
from dream_edge_runtime.errors import NotEnoughDisk, NotWritable
from dream_edge_runtime.files.writing import check_disk, free_disk, move, replace_file
from support.systems import make_link, make_pipe


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with replace_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), CheckpointChanged(Path("x"))])
def test_block_that_fails_leaves_the_file_as_it_was(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write_half() -> None:
        with replace_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


def test_two_that_write_at_once_do_not_meet(tmp_path: Path) -> None:
    with replace_file(tmp_path / "a") as first, replace_file(tmp_path / "a") as second:
        first.write(b"first")
        second.write(b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_disk_that_fails_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr({"fsync": "os.fsync", "rename": "pathlib.Path.replace"}[call], fail)
    with pytest.raises(NotWritable, match=r"No space left on device\. Name a"), replace_file(tmp_path / "a"):
        pass
    assert not [*tmp_path.iterdir()]


def test_pipe_or_device_is_not_replaced(tmp_path: Path) -> None:
    make_pipe(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for name in ("pipe", "directory"):
        with pytest.raises(NotWritable, match="no file replaces"), replace_file(tmp_path / name):
            pass
    assert {each.name for each in tmp_path.iterdir() if each.is_fifo() or each.is_dir()} == {"pipe", "directory"}


def test_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotWritable, match="no-such-place"), replace_file(tmp_path / "no-such-place" / "a"):
        pass


def test_link_is_replaced_and_what_it_led_to_is_kept(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"kept")
    make_link(tmp_path / "link", "target")
    with replace_file(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "target").read_bytes() == b"kept"
    assert (tmp_path / "link").read_bytes() == b"new"
    assert not (tmp_path / "link").is_symlink()


def test_disk_that_is_too_small_is_known_before_anything_is_written(tmp_path: Path) -> None:
    place = tmp_path / "not" / "yet"
    check_disk(place, 0, "x")
    with pytest.raises(NotEnoughDisk, match=r"Make room, or stand on your head\.$") as caught:
        check_disk(place, 1 << 60, "stand on your head")
    assert caught.value.needed == 1 << 60
    assert 0 < caught.value.free <= free_disk(tmp_path) + (1 << 30)
    assert not place.exists()


class Refusals:
    """Has the next `count` renames fail as Windows fails them; `winerror` is its number, or None on other systems."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int, winerror: int | None) -> None:
        self.left, self.asked, self.waits = count, 0, list[float]()
        replace = Path.replace

        def refuse(source: Path, goal: Path) -> Path:
            self.asked += 1
            if not self.left:
                return replace(source, goal)
            self.left -= 1
            error = PermissionError(13, "The process cannot access the file")
            if winerror is not None:
                monkeypatch.setattr(error, "winerror", winerror, raising=False)
            raise error

        monkeypatch.setattr(Path, "replace", refuse)
        monkeypatch.setattr("time.sleep", self.waits.append)


@pytest.mark.parametrize("winerror", [5, 32])
def test_file_that_another_program_has_open_for_a_moment_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, winerror: int
) -> None:
    refusals = Refusals(monkeypatch, 3, winerror)
    with replace_file(tmp_path / "a") as file:
        file.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert len(refusals.waits) == 3


def test_file_that_stays_open_elsewhere_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    refusals = Refusals(monkeypatch, 99, 32)
    with (
        pytest.raises(NotWritable, match=r"a: cannot write there: .*\. Another program may have it open: close that"),
        replace_file(tmp_path / "a") as file,
    ):
        file.write(b"new")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]
    assert sum(refusals.waits) < 1


def test_rename_that_is_not_allowed_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()
    refusals = Refusals(monkeypatch, 99, None)
    with pytest.raises(PermissionError):
        move(tmp_path / "a", tmp_path / "b")
    assert (refusals.asked, refusals.waits) == (1, [])


def test_directory_that_cannot_be_synced_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows opens no directory, and some file systems sync none."""
    open_, fsync = os.open, os.fsync

    def refuse_to_open(path: Path, *rest: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied")
        return open_(path, *rest)

    def refuse_to_sync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(fd)

    for name, refuse in (("os.open", refuse_to_open), ("os.fsync", refuse_to_sync)):
        with monkeypatch.context() as patch:
            patch.setattr(name, refuse)
            with replace_file(tmp_path / name) as file:
                file.write(b"new")
        assert (tmp_path / name).read_bytes() == b"new"

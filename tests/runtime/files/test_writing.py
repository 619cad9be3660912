from __future__ import annotations

import os
from pathlib import Path

import pytest

from dream_edge_export.errors import CheckpointChanged
from dream_edge_runtime.errors import NotEnoughDisk, NotWritable
from dream_edge_runtime.files.writing import check_disk, free_disk, replace_file


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_pipe_or_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
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
    (tmp_path / "link").symlink_to("target")
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

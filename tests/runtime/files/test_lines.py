"""A file that grows by whole lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from dream_edge_runtime.errors import NotWritable, OutputBusy
from dream_edge_runtime.files.lines import open_lines


def test_lines_are_added_after_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    for there in ([], [b"one"], [b"one", b"two"]):
        with open_lines(path) as lines:
            assert lines.there == there
            lines.add([b"one", b"two", b"three"][len(there)])
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert [each.name for each in tmp_path.iterdir()] == ["lines"]


def test_a_torn_line_is_cut_off_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntorn and longer than the next")
    with open_lines(path) as lines:
        assert lines.there == [b"one"]
        assert path.read_bytes() == b"one\ntorn and longer than the next"  # it may be a file of somebody's
        lines.add(b"two")
        assert path.read_bytes() == b"one\ntwo\n"


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    with open_lines(tmp_path / "lines"), pytest.raises(OutputBusy), open_lines(tmp_path / "lines"):
        pass


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotWritable, match="no file"), open_lines(tmp_path):
        pass

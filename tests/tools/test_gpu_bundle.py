"""Wheels that are split, carried and joined are the same; what was lost on the way is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tools.gpu_bundle import BadBundle, join, pack


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    directory, bits = tmp_path / "wheels", random.Random(0)
    directory.mkdir()
    for name, size in (("large-1-py3-none-any.whl", 2500), ("even-1-py3-none-any.whl", 2000), ("small.whl", 10)):
        (directory / name).write_bytes(bits.randbytes(size))
    return directory


def test_joined_wheels_are_the_same(wheels: Path, tmp_path: Path) -> None:
    manifest = pack(wheels, tmp_path / "bundle", piece=1000)
    assert [len(each["pieces"]) for each in manifest.values()] == [2, 3, 1]
    assert max(path.stat().st_size for path in (tmp_path / "bundle").glob("*.whl.*")) == 1000
    for path in join(tmp_path / "bundle", tmp_path / "joined"):
        assert path.read_bytes() == (wheels / path.name).read_bytes()


def test_all_lost_and_damaged_pieces_are_named(wheels: Path, tmp_path: Path) -> None:
    pack(wheels, tmp_path / "bundle", piece=1000)
    (tmp_path / "bundle" / "large-1-py3-none-any.whl.001").unlink()
    (tmp_path / "bundle" / "small.whl.000").write_bytes(b"other")
    with pytest.raises(BadBundle, match=r"large-1-py3-none-any.whl.001, small.whl.000"):
        join(tmp_path / "bundle", tmp_path / "joined")

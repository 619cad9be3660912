"""Where weights lie in the shards, and the writer that fills them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from dream_edge_export.output.journal import Finished
from dream_edge_export.output.shards import WeightWriter
from dream_edge_runtime.format.layout import Layout, TensorSpec

SPECS = [
    TensorSpec("a", "uint8", (3, 50)),
    TensorSpec("b", "float16", (5,)),
    TensorSpec("c", "float32", (4, 100)),  # larger than a shard
    TensorSpec("d", "int8", (1000,)),  # exactly a shard
    TensorSpec("e", "uint8", (1,)),
]
LAYOUT = Layout.of([[spec] for spec in SPECS], largest_shard=1000)


def arrays() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    chance = np.random.default_rng(0)
    return {
        spec.name: chance.integers(0, 100, tuple(int(length) for length in spec.shape)).astype(spec.dtype)
        for spec in SPECS
    }


def test_tensors_are_aligned_and_whole_and_shards_limited() -> None:
    assert [(place.shard, place.offset, place.size) for place in LAYOUT.places] == [
        ("weights-00001.bin", 0, 150),
        ("weights-00001.bin", 192, 10),
        ("weights-00002.bin", 0, 1600),
        ("weights-00003.bin", 0, 1000),
        ("weights-00004.bin", 0, 1),
    ]
    assert LAYOUT.sizes() == {
        "weights-00001.bin": 202,
        "weights-00002.bin": 1600,
        "weights-00003.bin": 1000,
        "weights-00004.bin": 1,
    }
    assert LAYOUT.sizes(1) == {"weights-00001.bin": 150}
    assert LAYOUT.sizes(0) == {}


def test_tensors_that_come_together_lie_without_gaps_in_one_shard() -> None:
    a, b, c, d, e = SPECS
    together = Layout.of([[e], [a, b], [e, d], [c]], largest_shard=1000)
    assert [(place.spec.name, place.shard[-5:-4], place.offset) for place in together.places] == [
        ("e", "1", 0),
        ("a", "1", 64),
        ("b", "1", 214),
        ("e", "2", 0),
        ("d", "2", 1),
        ("c", "3", 0),
    ]


def test_bytes_lie_where_the_layout_says(tmp_path: Path) -> None:
    with WeightWriter(tmp_path, LAYOUT) as writer:
        for name, array in arrays().items():
            for part in np.array_split(array, 3):  # slices of rows, some of them empty
                if part.size:
                    writer.append(name, part)
        files = writer.files
    for place in LAYOUT.places:
        data = (tmp_path / place.shard).read_bytes()
        assert data[place.offset : place.offset + place.size] == arrays()[place.spec.name].tobytes()
    assert {entry.name: entry.size for entry in files} == LAYOUT.sizes()
    for entry in files:
        assert hashlib.sha256((tmp_path / entry.name).read_bytes()).hexdigest() == entry.sha256


@pytest.mark.parametrize("count", range(len(SPECS) + 1))
def test_writer_resumes_after_what_is_finished(tmp_path: Path, count: int) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for directory in (whole, resumed):
        directory.mkdir()
    with WeightWriter(whole, LAYOUT) as writer:
        for name, array in arrays().items():
            writer.append(name, array)
        expected = writer.files
    with WeightWriter(resumed, LAYOUT) as writer:
        for index, (name, array) in enumerate(arrays().items()):
            if index == count:
                writer.mark()
            writer.append(name, array)
        if count == len(SPECS):
            writer.mark()
        finished = writer.finished
    with WeightWriter(resumed, LAYOUT) as writer:
        assert writer.resume(finished) == (count > 0)
        for name, array in list(arrays().items())[count:]:
            writer.append(name, array)
        assert writer.files == expected
    assert {file.name: file.read_bytes() for file in resumed.iterdir()} == {
        file.name: file.read_bytes() for file in whole.iterdir()
    }


def test_shards_that_differ_are_not_continued(tmp_path: Path) -> None:
    with WeightWriter(tmp_path, LAYOUT) as writer:
        assert not writer.resume(Finished(1, {"weights-00001.bin": "0" * 64}))
    (tmp_path / "weights-00001.bin").write_bytes(bytes(150))
    with WeightWriter(tmp_path, LAYOUT) as writer:
        assert not writer.resume(Finished(1, {"weights-00001.bin": "0" * 64}))
    with WeightWriter(tmp_path, LAYOUT) as writer:
        assert writer.resume(Finished(1, {"weights-00001.bin": hashlib.sha256(bytes(150)).hexdigest()}))


def test_what_does_not_fit_the_layout_is_a_mistake(tmp_path: Path) -> None:
    given = arrays()
    with WeightWriter(tmp_path, LAYOUT) as writer:
        with pytest.raises(TypeError, match="expected a part of"):
            writer.append("b", given["b"])
        with pytest.raises(TypeError):
            writer.append("a", given["a"].astype(np.int8))
        with pytest.raises(TypeError):
            writer.append("a", given["a"].T)
        with pytest.raises(ValueError, match="longer"):
            writer.append("a", np.concatenate([given["a"], given["a"]]))
        writer.append("a", given["a"])
        with pytest.raises(ValueError, match="b was not written"):
            _ = writer.files

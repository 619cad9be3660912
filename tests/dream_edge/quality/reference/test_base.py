"""The file of a base: what it keeps, and what is refused of one that is damaged or from a stranger."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from dream_edge.quality import Base, build_base, draw_evaluation
from dream_edge.quality.errors import (
    BaseNotFound,
    CorruptBase,
    MismatchedBase,
    UnsupportedBase,
)
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.errors import NotWritable
from support.checkpoints import write_checkpoint

TEXTS = ["The quick brown fox jumps over the lazy dog.", "a", "What is the capital of the other country?"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory = tmp_path_factory.mktemp("base") / "checkpoint"
    write_checkpoint(directory)
    return Checkpoint.open(directory)


@pytest.fixture(scope="module")
def base(checkpoint: Checkpoint) -> Base:
    evaluation = draw_evaluation(checkpoint, data=TEXTS, sequences=7, seed=2)
    return build_base(checkpoint, evaluation, checkpoint.path.parent / "a.base")


def test_it_holds_what_the_network_says_of_the_masked_positions(base: Base, checkpoint: Checkpoint) -> None:
    network = load_reference(checkpoint)
    for index, masked in enumerate(base.evaluation.passages):
        with torch.inference_mode():
            logits = network(torch.from_numpy(masked.canvas)[None])[0, np.maximum(masked.positions - 1, 0)]
        found = base.log_probs(int(base.evaluation.starts[index]), int(base.evaluation.starts[index + 1]))
        np.testing.assert_allclose(found, logits.double().log_softmax(-1), atol=2e-3)


def test_opening_gives_back_the_evaluation_set(base: Base, checkpoint: Checkpoint) -> None:
    drawn = draw_evaluation(checkpoint, data=TEXTS, sequences=7, seed=2)
    opened = Base.open(base.path)
    assert (opened.evaluation.data, opened.evaluation.seed, opened.evaluation.bins) == (drawn.data, 2, 5)
    assert (opened.name, opened.config) == ("checkpoint", checkpoint.config)
    for found, expected in zip(opened.evaluation.passages, drawn.passages, strict=True):
        assert found.bin == expected.bin
        for name in ("canvas", "positions", "targets"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_any_rows_can_be_read(base: Base) -> None:
    every = base.log_probs(0, base.evaluation.rows)
    np.testing.assert_array_equal(base.log_probs(3, 5), every[3:5])
    assert base.log_probs(4, 4).shape == (0, base.config.vocab_size)
    with pytest.raises(IndexError):
        base.log_probs(0, base.evaluation.rows + 1)


def test_it_is_a_safetensors_file(base: Base) -> None:
    arrays = safetensors.numpy.load_file(base.path)
    assert arrays["codes"].shape == (base.evaluation.rows, base.config.vocab_size)
    assert arrays["codes"].dtype == np.uint16
    assert arrays["canvas"].shape == (base.evaluation.tokens,)


def test_extras_are_kept_beside_all_else(base: Base, tmp_path: Path) -> None:
    copied = tmp_path / "copy.base"
    copied.write_bytes(base.path.read_bytes())
    kept = Base.open(copied).with_extra("noise", {"kl_mean": 1e-5}).with_extra("flips", [1, 2, "drei"])
    assert (kept.extra("noise"), kept.extra("flips"), kept.extra("other")) == ({"kl_mean": 1e-5}, [1, 2, "drei"], None)
    np.testing.assert_array_equal(kept.log_probs(0, 5), base.log_probs(0, 5))
    assert kept.with_extra("noise", None).extra("noise") is None
    assert [file.name for file in tmp_path.iterdir()] == ["copy.base"]


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, "x" * (1 << 26)], ids=["nan", "set", "large"])
def test_extras_that_cannot_be_kept_leave_the_file_alone(base: Base, value: Any) -> None:
    before = base.path.read_bytes()
    with pytest.raises((ValueError, TypeError)):
        base.with_extra("name", value)
    assert base.path.read_bytes() == before
    assert not [*base.path.parent.glob(".*.partial")]


def test_an_extra_on_a_full_disk_leaves_the_file_alone(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NotWritable, match="No space left"):
        base.with_extra("name", 1)
    assert base.path.read_bytes() == before
    assert not [*base.path.parent.glob(".*.partial")]


def test_another_checkpoint_of_the_same_shapes_is_refused(base: Base, checkpoint: Checkpoint, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, seed=1)
    with pytest.raises(MismatchedBase, match="another checkpoint"):
        base.check(Checkpoint.open(tmp_path))
    base.check(checkpoint)


def test_the_same_weights_in_other_files_are_the_same_checkpoint(base: Base, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, shards=3)
    base.check(Checkpoint.open(tmp_path))


def test_a_place_without_a_base_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BaseNotFound, match="--save-base"):
        Base.open(tmp_path / "none.base")
    with pytest.raises(BaseNotFound):
        Base.open(tmp_path)


# --- damage ----------------------------------------------------------------------------------------------------------


def header_of(data: bytes | bytearray) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    found: dict[str, Any] = json.loads(data[8 : 8 + length])
    return found


def with_header(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    table = header_of(data)
    change(table)
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + int.from_bytes(data[:8], "little") :]


def about(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def changed(table: dict[str, Any]) -> None:
        document = json.loads(table["__metadata__"]["about"])
        change(document)
        table["__metadata__"]["about"] = json.dumps(document)

    return lambda data: with_header(data, changed)


def metadata(**fields: str) -> Callable[[bytes], bytes]:
    return lambda data: with_header(data, lambda table: table["__metadata__"].update(fields))


def array(name: str, index: int, value: int) -> Callable[[bytes], bytes]:
    """Change one number of an I32 array."""

    def changed(data: bytes) -> bytes:
        start = 8 + int.from_bytes(data[:8], "little") + header_of(data)[name]["data_offsets"][0] + 4 * index
        return data[:start] + value.to_bytes(4, "little", signed=True) + data[start + 4 :]

    return changed


def shapes(**sizes: list[int]) -> Callable[[bytes], bytes]:
    def changed(table: dict[str, Any]) -> None:
        for name, shape in sizes.items():
            table[name]["shape"] = shape

    return lambda data: with_header(data, changed)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: data[:0],
    "a few bytes": lambda data: data[:7],
    "cut in its header": lambda data: data[:100],
    "cut in its codes": lambda data: data[: len(data) // 2],
    "cut by a byte": lambda data: data[:-1],
    "longer by a byte": lambda data: data + b"\0",
    "a header of 2^63 bytes": lambda data: (1 << 63).to_bytes(8, "little") + data[8:],
    "no JSON": lambda data: data[:8] + b"x" + data[9:],
    "deep JSON": lambda data: (100_000).to_bytes(8, "little") + b"[" * 100_000 + data,
    "another safetensors file": metadata(format="pt"),
    "no metadata": lambda data: with_header(data, lambda table: table.pop("__metadata__")),
    "a version that is none": metadata(version="one"),
    "NaN in about": metadata(about='{"seed": NaN}'),
    "a field too many": about(lambda document: document.update(code="import os")),
    "a field too few": about(lambda document: document.pop("data")),
    "no geometry": about(lambda document: document.update(config=[])),
    "another vocabulary": about(lambda document: document["config"].update(vocab_size=449)),
    "bins that are none": about(lambda document: document.update(bins=0)),
    "a digest that is none": about(lambda document: document.update(fingerprint="abc")),
    "extras that are no object": about(lambda document: document.update(extras=[])),
    "an array too few": lambda data: with_header(data, lambda table: table.pop("checksums")),
    "rows without end": shapes(codes=[1 << 45, 448]),
    "negative rows": shapes(codes=[-1, 448]),
    "rows that are true": shapes(codes=[True, 448]),
    "no rows": shapes(codes=[0, 448], positions=[0], targets=[0], checksums=[0]),
    "a type that does not fit": lambda data: with_header(data, lambda table: table["codes"].update(dtype="I16")),
    "a token beyond the vocabulary": array("targets", 0, 448),
    "a negative token": array("canvas", 0, -1),
    "a position beyond its passage": array("positions", 0, 1 << 20),
    "a bin too many": array("bins", 0, 5),
    "a passage of no tokens": array("lengths", 0, 0),
    "passages longer than all": array("lengths", 0, 1 << 30),
    "more masks than tokens": array("masked", 0, 1 << 20),
    "other text under a mask": lambda data: array("positions", 0, 0)(array("positions", 1, 0)(data)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_refused(base: Base, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (tmp_path / "a.base").write_bytes(damage(base.path.read_bytes()))
    with pytest.raises(CorruptBase, match=r"a\.base: .*make it again"):
        Base.open(tmp_path / "a.base")


def test_a_base_of_an_earlier_release_is_of_dreams_form(base: Base, checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Version 1.0 said nothing of heads, biases, norms and blocks."""

    def forget(document: dict[str, Any]) -> None:
        for name in ("head_dim", "attention_bias", "qk_norm", "causal_block"):
            del document["config"][name]

    data = about(forget)(base.path.read_bytes())
    (tmp_path / "a.base").write_bytes(metadata(version="1.0")(data))
    opened = Base.open(tmp_path / "a.base")
    assert opened.config == base.config
    opened.check(checkpoint)
    np.testing.assert_array_equal(opened.log_probs(0, 9), base.log_probs(0, 9))
    (tmp_path / "b.base").write_bytes(data)
    with pytest.raises(CorruptBase):
        Base.open(tmp_path / "b.base")


@pytest.mark.parametrize("version", ["2.0", "1.2"])
def test_a_newer_format_is_refused(base: Base, tmp_path: Path, version: str) -> None:
    (tmp_path / "a.base").write_bytes(metadata(version=version)(base.path.read_bytes()))
    with pytest.raises(UnsupportedBase, match=f"version {version}"):
        Base.open(tmp_path / "a.base")


def test_a_row_that_rotted_is_refused_when_it_is_read(base: Base, tmp_path: Path) -> None:
    data = bytearray(base.path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little") + header_of(data)["codes"]["data_offsets"][0]
    data[start + 2 * base.config.vocab_size * 3 + 11] ^= 4  # in row 3
    (tmp_path / "a.base").write_bytes(data)
    rotten = Base.open(tmp_path / "a.base")
    rotten.log_probs(0, 3)
    with pytest.raises(CorruptBase, match="checksum"):
        rotten.log_probs(2, 5)


def test_a_base_that_was_replaced_meanwhile_is_refused(base: Base, tmp_path: Path) -> None:
    path = tmp_path / "a.base"
    path.write_bytes(base.path.read_bytes())
    opened = Base.open(path)
    path.write_bytes(base.path.read_bytes()[:-4])
    with pytest.raises(CorruptBase, match="after it was opened"):
        opened.log_probs(0, 1)


def test_opening_needs_no_torch(base: Base) -> None:
    program = (
        f"import sys; from dream_edge.quality import Base; Base.open({str(base.path)!r}).log_probs(0, 2);"
        "print([name for name in ('torch', 'onnx', 'safetensors') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_base_of_one_row_is_a_base(checkpoint: Checkpoint, tmp_path: Path) -> None:
    evaluation = draw_evaluation(checkpoint, data=["a"], sequences=1)
    one = build_base(checkpoint, replace(evaluation, seed=9), tmp_path / "b" / "one.base")
    assert (one.log_probs(0, 1).shape, one.evaluation.seed) == ((1, 448), 9)

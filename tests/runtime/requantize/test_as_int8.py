"""4-bit artifacts written once more with 8-bit weights, and the copies that are kept of them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dream_edge_export.export import export
from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import CorruptArtifact, NotEnoughDisk, NothingToRequantize, NotWritable, UnsafeCache
from dream_edge_runtime.format.recipe import ROW, TABLE, Recipe
from dream_edge_runtime.format.tensors import EMBEDDING, matrix_shapes, vector_sizes
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.progress import Progress
from dream_edge_runtime.requantize.artifact import requantize
from dream_edge_runtime.requantize.cache import Int8Cache
from support.arithmetic import dequantized
from support.artifacts import WEIGHTS, change_bytes, make_artifact
from support.family import FAMILY, write_family_checkpoint
from support.graphs import split_name

SMALL = ("int4", "mixed", "nf4")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("small"), "int4", hidden_size=128, intermediate_size=256)


@pytest.fixture
def cache(tmp_path: Path) -> Int8Cache:
    return Int8Cache(tmp_path / "cache" / "as-int8")


def convert(artifact: Artifact, out: Path, threads: int = 1) -> Artifact:
    out.mkdir()
    return requantize(artifact, out, threads=threads)


def tensors(artifact: Artifact) -> dict[str, NDArray[np.generic]]:
    """What the graph reads, of each matrix by itself."""
    shapes, found = matrix_shapes(artifact.manifest.config), {}
    for item in onnx.load(artifact.path / artifact.manifest.graphs["cpu"]).graph.initializer:
        joined, _, part = item.name.rpartition(".")
        names, array = split_name(joined), onnx.numpy_helper.to_array(item)
        if len(names) == 1:
            found[item.name] = array
            continue
        ends = np.cumsum([shapes[name][0] for name in names])
        pieces = np.split(array, ends[:-1] * len(array) // ends[-1])
        found |= {f"{name}.{part}": piece for name, piece in zip(names, pieces, strict=True)}
    return found


def logits(artifact: Artifact) -> FloatArray:
    ids = np.arange(12)[None]
    return OnnxNetwork(artifact, threads=1).forward(ids, ids, np.ones((1, 1, 12), bool), ids[0], 0.0).fetch_logits()


@pytest.mark.parametrize("scheme", SMALL)
def test_weights_are_those_of_the_artifact_to_half_a_step(tmp_path: Path, scheme: str) -> None:
    small = make_artifact(tmp_path, scheme, hidden_size=128, intermediate_size=256)
    large = convert(small, tmp_path / "large")
    large.verify()
    before, after, config = tensors(small), tensors(large), small.manifest.config
    for name, (_, inputs) in matrix_shapes(config).items():
        if name == EMBEDDING:
            assert (after[f"{name}.weight"] == before[f"{name}.weight"]).all()
            assert (after[f"{name}.scales"] == before[f"{name}.scales"]).all()
            continue
        parts = {key.removeprefix(f"{name}."): value for key, value in before.items() if key.startswith(f"{name}.")}
        stored = dequantized(parts, small.manifest.recipe.targets["cpu"].of(name), inputs)
        assert large.manifest.recipe.targets["cpu"].of(name) == ROW
        found = dequantized({"weight": after[f"{name}.weight"], "scales": after[f"{name}.scales"]}, ROW, inputs)
        steps = np.abs(stored).max(axis=1, keepdims=True) / 127
        assert (np.abs(found - stored) <= steps * (0.5 + 1e-4)).all()
    for name in vector_sizes(config):
        assert (after[name] == before[name]).all()


@pytest.mark.parametrize("scheme", SMALL)
def test_logits_stay_near(tmp_path: Path, scheme: str) -> None:
    small = make_artifact(tmp_path, scheme, hidden_size=128, intermediate_size=256)
    expected, found = logits(small), logits(convert(small, tmp_path / "large"))
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", FAMILY)
def test_every_form_is_converted(tmp_path: Path, name: str) -> None:
    """A head that is the embedding is in 8-bit rows already, and stays as it is: its bytes are copied, once."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", **FAMILY[name])
    small = export(checkpoint, tmp_path / "small", Recipe.for_scheme("int4"))
    large = convert(small, tmp_path / "large")
    expected, found = logits(small), logits(large)
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)
    if checkpoint.config.tie_word_embeddings:
        assert large.manifest.recipe.targets["cpu"].lm_head == TABLE
        before, after = tensors(small), tensors(large)
        assert (after[f"{EMBEDDING}.weight"] == before[f"{EMBEDDING}.weight"]).all()
        assert "lm_head.weight" not in after


def test_bytes_do_not_depend_on_threads(artifact: Artifact, tmp_path: Path) -> None:
    first, second = (convert(artifact, tmp_path / str(threads), threads) for threads in (1, 3))
    assert first.manifest == second.manifest


def test_everything_else_is_kept(artifact: Artifact, tmp_path: Path) -> None:
    large = convert(artifact, tmp_path / "large")
    assert large.manifest.recipe.scheme == "int4"
    assert (large.manifest.config, large.manifest.license) == (artifact.manifest.config, artifact.manifest.license)
    assert large.manifest.generation == artifact.manifest.generation
    assert large.tokenizer().vocab_size == artifact.tokenizer().vocab_size


def test_progress_ends_at_the_total(artifact: Artifact, tmp_path: Path) -> None:
    seen: list[Progress] = []
    (tmp_path / "large").mkdir()
    requantize(artifact, tmp_path / "large", threads=1, progress=seen.append)
    amounts = [each.done for each in seen]
    assert amounts == sorted(amounts)
    assert seen[-1].done == seen[-1].total


@pytest.mark.parametrize("scheme", ["int8", "fp32"])
def test_artifact_without_groups_is_refused(tmp_path: Path, cache: Int8Cache, scheme: str) -> None:
    with pytest.raises(NothingToRequantize, match=scheme):
        cache.obtain(make_artifact(tmp_path, scheme), threads=1)
    assert not cache.directory.exists()


def test_converted_artifact_is_not_converted_again(artifact: Artifact, tmp_path: Path) -> None:
    large = convert(artifact, tmp_path / "large")
    with pytest.raises(NothingToRequantize):
        convert(large, tmp_path / "again")


# --- copies ----------------------------------------------------------------------------------------------------------


def test_copy_is_made_once_listed_and_removed(artifact: Artifact, cache: Int8Cache) -> None:
    assert cache.find(artifact) is None
    first = cache.obtain(artifact, threads=1)
    written = (first.path / WEIGHTS).stat().st_ino
    assert (cache.obtain(artifact, threads=1, verify=True).path / WEIGHTS).stat().st_ino == written
    (entry,) = cache.entries()
    assert entry.artifact == str(artifact.path.absolute())
    assert entry.size == first.size + (first.path / "manifest.json").stat().st_size
    cache.remove(entry)
    assert cache.entries() == []


@pytest.mark.parametrize("damage", ["truncated weights", "no manifest"])
def test_damaged_copy_is_made_anew(artifact: Artifact, cache: Int8Cache, damage: str) -> None:
    copy = cache.obtain(artifact, threads=1)
    if damage == "truncated weights":
        os.truncate(copy.path / WEIGHTS, 1000)
    else:
        (copy.path / "manifest.json").unlink()
    assert cache.find(artifact) is None
    cache.obtain(artifact, threads=1).verify()


def test_changed_weights_are_found_when_verifying(artifact: Artifact, cache: Int8Cache) -> None:
    copy = cache.obtain(artifact, threads=1)
    change_bytes(copy.path / WEIGHTS, lambda data: data.__setitem__(slice(0, 64), bytes(64)))
    assert cache.find(artifact) is not None
    assert cache.find(artifact, verify=True) is None
    cache.obtain(artifact, threads=1, verify=True).verify()


def test_another_artifact_has_another_copy(artifact: Artifact, cache: Int8Cache, tmp_path: Path) -> None:
    other = make_artifact(tmp_path, "nf4", hidden_size=128, intermediate_size=256)
    assert cache.obtain(other, threads=1).path != cache.obtain(artifact, threads=1).path
    assert len(cache.entries()) == 2


def test_full_disk_is_said_and_nothing_is_left(
    artifact: Artifact, cache: Int8Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_nothing(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dream_edge_runtime.requantize.artifact._Shards.append", write_nothing)
    with pytest.raises(NotWritable, match=r"No space left.*XDG_CACHE_HOME"):
        cache.obtain(artifact, threads=1)
    assert list(cache.directory.iterdir()) == []
    monkeypatch.setattr("dream_edge_runtime.files.writing.free_disk", lambda _: 10)
    with pytest.raises(NotEnoughDisk, match=r"0\.00 GB are free.*XDG_CACHE_HOME"):
        cache.obtain(artifact, threads=1)


def test_cache_that_cannot_be_made_is_said(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    with pytest.raises(NotWritable, match="XDG_CACHE_HOME"):
        Int8Cache(tmp_path / "file" / "as-int8").obtain(artifact, threads=1)


def test_artifact_that_was_cut_short_is_refused(tmp_path: Path, cache: Int8Cache) -> None:
    small = make_artifact(tmp_path, "int4")
    os.truncate(small.path / WEIGHTS, 1000)
    with pytest.raises(CorruptArtifact, match="cut short"):
        cache.obtain(small, threads=1)
    assert list(cache.directory.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no permission bits")
def test_directory_that_others_can_write_is_refused(artifact: Artifact, cache: Int8Cache) -> None:
    cache.obtain(artifact, threads=1)
    cache.directory.chmod(0o777)
    with pytest.raises(UnsafeCache):
        cache.obtain(artifact, threads=1)


def test_copy_is_on_the_disk_before_it_has_its_name(
    artifact: Artifact, cache: Int8Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, before, fsync, replace = set[int](), list[set[int]](), os.fsync, Path.replace

    def note(fd: int) -> None:
        fsync(fd)
        synced.add(os.fstat(fd).st_ino)

    def move(source: Path, goal: Path) -> Path:
        before.append(set(synced))
        return replace(source, goal)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", move)
    copy = cache.obtain(artifact, threads=1)
    assert {file.stat().st_ino for file in copy.path.iterdir()} <= before[-1]


def test_two_at_once_leave_one_copy(artifact: Artifact, cache: Int8Cache) -> None:
    made: list[Artifact] = []
    workers = [threading.Thread(target=lambda: made.append(cache.obtain(artifact, threads=1))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {each.path for each in made} == {cache.entries()[0].path}
    assert len(cache.entries()) == 1
    made[0].verify()

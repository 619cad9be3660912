"""Prepacked copies: the same results, and nothing worse than a new copy when one is damaged or foreign."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.errors import NoRoomForCache, TooLittleMemory, UnsafeCache
from dream_edge_runtime.format.artifact import Artifact
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.requantize import copies, prepacked
from dream_edge_runtime.requantize.prepacked import ENTRY, GRAPH, WEIGHTS, PrepackedCache
from support.artifacts import change_bytes, make_artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("prepacked"), "int8", hidden_size=128, intermediate_size=256)


@pytest.fixture
def cache(tmp_path: Path) -> PrepackedCache:
    return PrepackedCache(tmp_path / "cache" / "prepacked")


def logits(artifact: Artifact, cache: PrepackedCache | None, **options: bool) -> FloatArray:
    network = OnnxNetwork(artifact, threads=1, prepacked=cache, **options)  # type: ignore[arg-type]
    ids = np.arange(12)[None]
    return network.forward(ids, ids, np.ones((1, 12), bool), np.arange(12), 0.0).fetch_logits()


def copy_of(cache: PrepackedCache) -> Path:
    (entry,) = cache.entries()
    return entry.path


def written(cache: PrepackedCache) -> int:
    return (copy_of(cache) / WEIGHTS).stat().st_ino


@pytest.mark.parametrize("scheme", ["int8", "int4", "fp32", "fp16", "mixed", "nf4"])
def test_saving_and_mapping_change_no_bit(tmp_path: Path, cache: PrepackedCache, scheme: str) -> None:
    made = make_artifact(tmp_path, scheme, hidden_size=128, intermediate_size=256)
    plain = logits(made, None)
    assert (logits(made, cache) == plain).all()
    before = written(cache)
    assert (logits(made, cache) == plain).all()
    assert written(cache) == before


def test_copy_is_listed_and_removed(artifact: Artifact, cache: PrepackedCache) -> None:
    assert cache.entries() == []
    logits(artifact, cache)
    (entry,) = cache.entries()
    assert entry.artifact == str(artifact.path)
    assert entry.size == sum(file.stat().st_size for file in entry.path.iterdir())
    assert entry.size <= 1.5 * cache.expected_size(artifact, "cpu") + 200_000
    os.utime(entry.path / ENTRY, (1, 1))
    logits(artifact, cache)
    assert cache.entries()[0].used > 1
    cache.remove(entry)
    assert cache.entries() == []


@pytest.mark.parametrize("damage", ["truncated weights", "changed graph", "no entry", "bad entry", "no weights"])
def test_damaged_copy_is_made_anew(artifact: Artifact, cache: PrepackedCache, damage: str) -> None:
    plain = logits(artifact, cache)
    path, before = copy_of(cache), written(cache)
    if damage == "truncated weights":
        os.truncate(path / WEIGHTS, (path / WEIGHTS).stat().st_size // 2)
    elif damage == "changed graph":
        change_bytes(path / GRAPH, lambda data: data.__setitem__(slice(40, 60), bytes(20)))
    elif damage == "no entry":
        (path / ENTRY).unlink()
    elif damage == "bad entry":
        (path / ENTRY).write_text('{"files": 3}')
    else:
        (path / WEIGHTS).unlink()
    assert cache.find(path.name) is None
    assert (logits(artifact, cache) == plain).all()
    assert cache.find(path.name, verify=True) is not None
    assert damage == "no weights" or written(cache) != before


def test_copy_that_does_not_load_is_made_anew(artifact: Artifact, cache: PrepackedCache) -> None:
    plain = logits(artifact, cache)
    path = copy_of(cache)
    (path / GRAPH).write_bytes(b"not a graph")
    document = json.loads((path / ENTRY).read_text())
    document["files"][GRAPH] = [11, prepacked._digest(path / GRAPH)]
    (path / ENTRY).write_text(json.dumps(document))
    assert (logits(artifact, cache) == plain).all()
    assert (copy_of(cache) / GRAPH).stat().st_size > 11


def test_changed_weights_are_found_when_verifying(artifact: Artifact, cache: PrepackedCache) -> None:
    plain = logits(artifact, cache)
    path = copy_of(cache)
    change_bytes(path / WEIGHTS, lambda data: data.__setitem__(slice(0, len(data)), bytes(len(data))))
    assert cache.find(path.name) is not None
    assert cache.find(path.name, verify=True) is None
    assert (logits(artifact, cache, verify=True) == plain).all()
    assert cache.find(path.name, verify=True) is not None


def test_key_follows_artifact_version_settings_and_processor(
    artifact: Artifact, cache: PrepackedCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(of: Artifact = artifact, settings: str = "{}", version: str = "1.31.1") -> str:
        return cache.key(of, "cpu", settings, version)

    moved = tmp_path / "moved"
    shutil.copytree(artifact.path, moved)
    assert key(Artifact.open(moved)) == key()
    other = make_artifact(tmp_path, "int4", hidden_size=128, intermediate_size=256)
    keys = {key(), key(other), key(settings='{"a": "1"}'), key(version="1.32.0")}
    monkeypatch.setattr(prepacked, "_processor", lambda: "another")
    assert len(keys | {key()}) == 5


def test_two_at_once_leave_one_whole_copy(artifact: Artifact, cache: PrepackedCache) -> None:
    plain, found = logits(artifact, None), []
    threads = [threading.Thread(target=lambda: found.append(logits(artifact, cache))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all((each == plain).all() for each in found)
    assert [path.name for path in cache.directory.iterdir()] == [copy_of(cache).name]
    assert cache.find(copy_of(cache).name, verify=True)


def test_failure_leaves_nothing(artifact: Artifact, cache: PrepackedCache) -> None:
    def fail(path: Path, _: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.save("key", artifact, "cpu", fail, lambda *_: True)
    assert list(cache.directory.iterdir()) == []


def test_copy_that_computes_something_else_is_not_kept(
    tmp_path: Path, cache: PrepackedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime loses the zero points of matrices this small."""
    made = make_artifact(tmp_path, "int4", hidden_size=64, intermediate_size=128)
    plain = logits(made, None)
    for _ in range(2):
        assert (logits(made, cache) == plain).all()
    monkeypatch.setattr(OnnxNetwork, "_agrees", lambda *_: False)
    assert (logits(made, cache) == plain).all()
    assert cache.entries() == []


def test_what_a_killed_process_left_is_removed_after_a_day(artifact: Artifact, cache: PrepackedCache) -> None:
    old, young = cache.directory / ".a-1-1.partial", cache.directory / ".b-2-2.partial"
    for path in (old, young):
        path.mkdir(parents=True)
    os.utime(old, (1, 1))
    logits(artifact, cache)
    assert not old.exists()
    assert young.exists()


def test_full_disk_is_said_before_anything_is_written(
    artifact: Artifact, cache: PrepackedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 0, 10))  # type: ignore[attr-defined]
    with pytest.raises(NoRoomForCache, match="XDG_CACHE_HOME"):
        logits(artifact, cache)
    assert list(cache.directory.iterdir()) == []


@pytest.fixture
def shared(cache: PrepackedCache) -> Iterator[PrepackedCache]:
    cache.directory.mkdir(parents=True)
    cache.directory.chmod(0o777)
    yield cache
    cache.directory.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and modes are POSIX's")
def test_cache_that_others_can_write_is_refused(artifact: Artifact, shared: PrepackedCache) -> None:
    with pytest.raises(UnsafeCache, match="chmod go-w"):
        logits(artifact, shared)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_too_little_memory_is_said_before_loading(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dream_edge_runtime.inference.onnx_network.free_memory", lambda: 1000)
    with pytest.raises(TooLittleMemory, match="--no-memory-check"):
        OnnxNetwork(artifact)
    OnnxNetwork(artifact, memory_check=False)


def test_scheme_that_would_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_artifact(tmp_path, "fp32", hidden_size=512, intermediate_size=1024, num_hidden_layers=6)
    monkeypatch.setattr("dream_edge_runtime.inference.onnx_network.free_memory", lambda: 40_000_000)
    with pytest.raises(TooLittleMemory, match="int4 takes") as caught:
        OnnxNetwork(made)
    assert caught.value.smaller["int4"] < caught.value.free < caught.value.needed


def test_unknown_free_memory_refuses_nothing(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dream_edge_runtime.inference.onnx_network.free_memory", lambda: None)
    OnnxNetwork(artifact)

"""Loading by name, the bundled tiny Dream, and what it says when something is missing."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import dream_edge
from dream_edge.models import bundled
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.errors import (
    ArtifactNotFound,
    CheckpointNotFound,
    InvalidOption,
    MissingExtra,
    UnsupportedArtifact,
)
from dream_edge_runtime.format.manifest import MANIFEST, Manifest
from dream_edge_runtime.format.recipe import Recipe
from support.checkpoints import write_checkpoint
from support.family import FAMILY, write_family_checkpoint


@pytest.mark.parametrize("model", ["tiny", "tiny-blocks"])
def test_bundled_artifact_is_what_an_export_of_the_bundled_checkpoint_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    ours = bundled(f"{model}-int8")
    producer = Manifest.read(ours).producer
    monkeypatch.setattr("dream_edge_export.export.installed_version", lambda: producer.removeprefix("dream-edge "))
    fresh = export(Checkpoint.open(bundled(model)), tmp_path / ours.name, Recipe.for_scheme("int8")).path
    names = sorted(path.name for path in fresh.iterdir())
    assert names == sorted(path.name for path in ours.iterdir())
    for name in names:
        assert digest(fresh / name) == digest(ours / name), name


def test_bundled_files_are_small() -> None:
    sizes = {
        name: sum(path.stat().st_size for path in bundled(name).iterdir())
        for name in ("tiny", "tiny-int8", "tiny-blocks", "tiny-blocks-int8")
    }
    assert max(sizes.values()) <= 8_000_000
    assert sum(sizes.values()) <= 23_000_000  # what is not compressed well: a wheel has at most 25 MB


@pytest.mark.parametrize("model", ["tiny", "tiny-blocks"])
def test_a_bundled_model_generates_by_name(model: str) -> None:
    assert dream_edge.load(model).generate("What sound does the dog make?", max_new_tokens=16).text == "A dog barks."


def test_same_seed_gives_the_same_text_at_any_thread_count() -> None:
    texts = {
        dream_edge.load("tiny", threads=threads)
        .generate("Write a sentence about the cat.", max_new_tokens=24, temperature=1.0, seed=5)
        .token_ids
        for threads in (1, 2, 3)
    }
    assert len(texts) == 1


def test_a_model_is_shared_by_threads() -> None:
    model = dream_edge.load("tiny", threads=1)
    results: dict[int, tuple[int, ...]] = {}

    def work(seed: int) -> None:
        options = {"max_new_tokens": 16, "temperature": 0.8, "algorithm": "entropy"}
        results[seed] = model.generate("What color is the snow?", seed=seed, **options).token_ids  # type: ignore[arg-type]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = dict(results)
    for seed in range(6):
        work(seed)
    assert together == results


def test_a_directory_called_tiny_comes_first_only_with_a_model_in_it(
    tmp_path: Path, random_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "notes.txt").write_text("of a tiny project", "utf-8")
    assert dream_edge.resolve_artifact("tiny") == bundled("tiny_int8")
    assert dream_edge.resolve_checkpoint("tiny") == bundled("tiny")
    shutil.copytree(random_artifact, tmp_path / "tiny", dirs_exist_ok=True)
    assert dream_edge.resolve_artifact("tiny") == Path("tiny")


@pytest.mark.parametrize("model", ["tiny", "tiny-blocks"])
def test_another_scheme_of_tiny_is_exported_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loaded = dream_edge.load(f"{model}-int4")
    assert loaded.config == dream_edge.load(model).config
    assert loaded.generate("Hello", max_new_tokens=4).new_tokens <= 4
    (cached,) = (tmp_path / "dream-edge").iterdir()
    written = (cached / MANIFEST).stat().st_mtime_ns
    dream_edge.load(f"{model}-int4")
    assert (cached / MANIFEST).stat().st_mtime_ns == written


def test_another_scheme_without_the_export_extra_names_it(tmp_path: Path) -> None:
    program = f"""
import sys
for name in ("torch", "safetensors"):
    sys.modules[name] = None
import os
os.environ["XDG_CACHE_HOME"] = {str(tmp_path)!r}
import dream_edge
try:
    dream_edge.load("tiny-int4")
except dream_edge.DreamEdgeError as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.startswith(MissingExtra.__name__)
    assert "dream-edge[export]" in said


def test_missing_artifact_names_the_export(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match="dream-edge export"):
        dream_edge.load(tmp_path / "nothing")


def test_checkpoint_in_place_of_an_artifact_names_the_export(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    with pytest.raises(UnsupportedArtifact, match="dream-edge export"):
        dream_edge.load(tmp_path)


def test_a_scheme_of_tiny_that_there_is_not_is_no_artifact() -> None:
    assert dream_edge.resolve_artifact("tiny-int8") == bundled("tiny_int8")
    assert dream_edge.resolve_artifact("tiny-blocks-int8") == bundled("tiny_blocks_int8")
    for name in ("tiny-int3", "tiny-blocks-int3"):
        with pytest.raises(ArtifactNotFound, match=name):
            dream_edge.load(name)


def test_missing_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound):
        dream_edge.resolve_checkpoint(tmp_path / "nothing")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_block_causal_model_keeps_prefixes_within_what_is_free_or_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", **FAMILY["bd3lm-Qwen3-0.6B"])
    path = export(checkpoint, tmp_path / "artifact", Recipe.for_scheme("int8", layers=2)).path
    monkeypatch.setattr("dream_edge.models.free_memory", lambda: 8_000_000)
    limits = [
        model.prefixes and model.prefixes.usage.limit
        for model in (
            dream_edge.load(path, threads=1, memory_check=False, prefix_cache_bytes=limit) for limit in (None, 5, 0)
        )
    ]
    assert limits == [2_000_000, 5, None]
    assert dream_edge.load("tiny", threads=1, prefix_cache_bytes=5).prefixes is None


@pytest.mark.parametrize("wrong", [-1, 1.5, "1 GB", True])
def test_a_prefix_cache_is_a_number_of_bytes(wrong: Any) -> None:
    with pytest.raises(InvalidOption, match="prefix_cache_bytes"):
        dream_edge.load("nothing", prefix_cache_bytes=wrong)

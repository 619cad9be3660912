"""Exporting: what is replaced and what never is, what a failure leaves behind, and that bytes repeat."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from dream_edge_export import export as export_module
from dream_edge_export.checkpoint import Checkpoint
from dream_edge_export.export import ExportProgress, export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.config import ModelConfig
from dream_edge_runtime.errors import (
    ArtifactError,
    DreamEdgeError,
    NonFiniteWeights,
    OutputExists,
    OutputForeign,
    OutputNotWritable,
)
from dream_edge_runtime.recipe import SCHEMES, Recipe
from support.checkpoints import config_dict, random_weights, write_checkpoint, write_weights
from support.graphs import Graph

INT8 = Recipe.for_scheme("int8")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    write_checkpoint(tmp_path / "checkpoint")
    return Checkpoint.open(tmp_path / "checkpoint")


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def logits(artifact: Artifact) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    ids = np.arange(12)[None]
    found: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = Graph(artifact).full_pass(ids, ids >= 0)["logits"]
    return found


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes meanwhile."""
    resource = importlib.import_module("resource")
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def only(parent: Path, *names: str) -> bool:
    """Nothing is beside these: no staging directory, no half of an artifact."""
    return {entry.name for entry in parent.iterdir()} == set(names)


# --- what an export writes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_exported_artifact_opens_and_verifies(checkpoint: Checkpoint, tmp_path: Path, scheme: str) -> None:
    made = export(checkpoint, tmp_path / "out", Recipe.for_scheme(scheme))
    opened = Artifact.open(tmp_path / "out")
    opened.verify()
    assert opened == made
    assert opened.manifest.config == checkpoint.config
    assert opened.manifest.recipe == Recipe.for_scheme(scheme)
    assert opened.manifest.generation == checkpoint.generation_defaults
    listed = {entry.name for entry in opened.manifest.files} | {"manifest.json"}
    assert {"model_cpu.onnx", "weights-00001.bin", "tokenizer.json", "README.md"} < listed
    assert set(contents(tmp_path / "out")) == listed


def test_directories_above_are_made_and_names_may_be_anything(checkpoint: Checkpoint, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "a b" / "ñ 夢", INT8)
    Artifact.open(tmp_path / "a b" / "ñ 夢").verify()


def test_an_empty_directory_is_filled(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(checkpoint, tmp_path / "out", INT8).verify()


def test_progress_ends_at_the_whole(checkpoint: Checkpoint, tmp_path: Path) -> None:
    seen: list[ExportProgress] = []
    export(checkpoint, tmp_path / "out", INT8, progress=seen.append)
    assert [step.done for step in seen] == sorted({step.done for step in seen})
    assert seen[-1].done == seen[-1].total == sum(np.prod(checkpoint.shape(name)) for name in checkpoint.names)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_checkpoint_gives_what_its_values_in_fp32_give(tmp_path: Path, dtype: torch.dtype) -> None:
    config = write_checkpoint(tmp_path / "half", dtype=dtype, shards=2)
    write_checkpoint(tmp_path / "full")
    rounded = {name: tensor.float() for name, tensor in random_weights(config, dtype=dtype).items()}
    write_weights(tmp_path / "full", rounded)
    half, full = (export(Checkpoint.open(tmp_path / name), tmp_path / f"{name}.out", INT8) for name in ("half", "full"))
    assert half.manifest.provenance["dtype"] == str(dtype).removeprefix("torch.")
    weights = [contents(artifact.path)["weights-00001.bin"] for artifact in (half, full)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tied_checkpoint_equals_its_untied_twin(tmp_path: Path, scheme: str) -> None:
    config = write_checkpoint(tmp_path / "tied", tie_word_embeddings=True)
    write_checkpoint(tmp_path / "untied")
    weights = random_weights(config)
    write_weights(tmp_path / "untied", {**weights, "lm_head.weight": weights["model.embed_tokens.weight"].clone()})
    tied, untied = (
        export(Checkpoint.open(tmp_path / name), tmp_path / f"{name}.out", Recipe.for_scheme(scheme))
        for name in ("tied", "untied")
    )
    assert (logits(tied) == logits(untied)).all()


def test_licence_of_the_checkpoint_is_carried_over(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\nlicense: mit\n")
    made = export(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "out", INT8)
    assert made.manifest.license == "apache-2.0"
    assert "\nlicense: apache-2.0\n" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


# --- the same bytes --------------------------------------------------------------------------------------------------

EXPORT = """
import os, sys, torch
from pathlib import Path
from dream_edge_export.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.recipe import Recipe
os.umask(int(sys.argv[4], 8))
torch.set_num_threads(int(sys.argv[3]))
export(Checkpoint.open(Path(sys.argv[1])), Path("out"), Recipe.for_scheme(sys.argv[2]))
"""


def test_bytes_repeat_in_other_processes_directories_threads_and_umasks(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", vocab_size=2048)
    shutil.copytree(tmp_path / "checkpoint", tmp_path / "copy" / "checkpoint")
    made = []
    for index, (source, threads, umask) in enumerate([("checkpoint", 1, "022"), ("copy/checkpoint", 2, "077")]):
        directory = tmp_path / f"run {index}"
        directory.mkdir()
        command: list[str | Path] = [sys.executable, "-c", EXPORT, tmp_path / source, "int4", str(threads), umask]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": str(index)}
        subprocess.run(command, cwd=directory, env=environment, check=True, timeout=120)
        made.append(contents(directory / "out"))
    assert made[0] == made[1]


@pytest.mark.parametrize("scheme", ["fp32", "int8"])
def test_bytes_repeat_for_other_schemes(checkpoint: Checkpoint, tmp_path: Path, scheme: str) -> None:
    first, second = (export(checkpoint, tmp_path / name, Recipe.for_scheme(scheme)) for name in ("a", "b"))
    assert contents(first.path) == contents(second.path)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_umask_decides_who_may_read(checkpoint: Checkpoint, tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        out = export(checkpoint, tmp_path / "out", INT8).path
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in out.iterdir()} == {mode}
    assert out.stat().st_mode & 0o777 == 0o777 & ~umask


# --- what is replaced ------------------------------------------------------------------------------------------------


def test_existing_artifact_is_kept_without_force_and_replaced_with_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(checkpoint, out, INT8)
    before = contents(out)
    with pytest.raises(OutputExists, match="--force"):
        export(checkpoint, out, Recipe.for_scheme("int4"))
    assert contents(out) == before
    export(checkpoint, out, Recipe.for_scheme("int4"), force=True)
    assert Artifact.open(out).manifest.recipe.scheme == "int4"
    assert only(tmp_path, "checkpoint", "out")


FOREIGN = (
    "file",
    "link",
    "readme",
    "manifest_of_something_else",
    "checkpoint",
    "artifact_with_more",
    "directory_in_disguise",
)


def put(out: Path, kind: str) -> None:
    """Something in the place of the artifact that is not an artifact."""
    if kind == "file":
        out.write_text("mine")
        return
    if kind == "link":
        (out.parent / "elsewhere").mkdir()
        (out.parent / "elsewhere" / "manifest.json").write_text("{}")
        out.symlink_to(out.parent / "elsewhere", target_is_directory=True)
        return
    out.mkdir()
    match kind:
        case "readme":
            (out / "README.md").write_text("my notes")
        case "manifest_of_something_else":
            (out / "manifest.json").write_text("{}")
            (out / "README.md").write_text("a browser extension")
        case "checkpoint":
            write_checkpoint(out)
        case "artifact_with_more":
            (out / "manifest.json").write_text("{}")
            (out / "model_cpu.onnx").write_text("")
            (out / "thesis.docx").write_text("mine")
        case "directory_in_disguise":
            (out / "manifest.json").write_text("{}")
            (out / "model_cpu.onnx").write_text("")
            (out / "README.md").mkdir()
            (out / "README.md" / "thesis.docx").write_text("mine")


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_an_artifact_is_never_replaced(checkpoint: Checkpoint, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    put(out, kind)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(OutputExists):
        export(checkpoint, out, INT8)
    with pytest.raises(OutputForeign):
        export(checkpoint, out, INT8, force=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


# --- what a failure leaves -------------------------------------------------------------------------------------------


def spoil(directory: Path) -> Checkpoint:
    """A checkpoint whose last tensor holds one NaN."""
    weights = random_weights(ModelConfig.from_dict(config_dict()))
    weights["lm_head.weight"][5, 5] = torch.nan
    write_checkpoint(directory)
    write_weights(directory, weights)
    return Checkpoint.open(directory)


def test_damaged_tensor_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteWeights, match=r"lm_head\.weight"):
        export(spoil(tmp_path / "checkpoint"), tmp_path / "out", INT8)
    assert only(tmp_path, "checkpoint")


@pytest.mark.parametrize("stage", ["_write_weights", "_put_in_place", "model_card", "build_model"])
def test_old_artifact_survives_a_failed_replacement(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    out = tmp_path / "out"
    export(checkpoint, out, INT8)
    before = contents(out)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, stage, fail)
    with pytest.raises(OutputNotWritable, match="No space left"):
        export(checkpoint, out, Recipe.for_scheme("int4"), force=True)
    assert contents(out) == before
    assert only(tmp_path, "checkpoint", "out")


def test_old_artifact_returns_when_the_new_one_cannot_take_its_place(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export(checkpoint, out, INT8)
    before = contents(out)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputNotWritable):
        export(checkpoint, out, Recipe.for_scheme("int4"), force=True)
    assert contents(out) == before
    assert only(tmp_path, "checkpoint", "out")


def test_interrupt_leaves_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    def interrupt(step: ExportProgress) -> None:
        if step.done > step.total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, tmp_path / "out", INT8, progress=interrupt)
    assert only(tmp_path, "checkpoint")


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX")
@pytest.mark.parametrize("limit", [0, 1, 5000, 100_000])
def test_file_size_limit_leaves_nothing(checkpoint: Checkpoint, tmp_path: Path, limit: int) -> None:
    with files_limited_to(limit), pytest.raises(OutputNotWritable):
        export(checkpoint, tmp_path / "out", INT8)
    assert only(tmp_path, "checkpoint")


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX")
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_killed_export_leaves_nothing_that_loads(checkpoint: Checkpoint, tmp_path: Path, share: float) -> None:
    """The process ends without any clean-up; what it left is in a hidden directory that is no artifact."""
    process = os.fork()
    if process == 0:

        def die(step: ExportProgress) -> None:
            if step.done >= share * step.total:
                os._exit(9)

        export(checkpoint, tmp_path / "out", INT8, progress=die)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    assert not (tmp_path / "out").exists()
    for left in tmp_path.glob(".out-*"):
        with pytest.raises(ArtifactError):
            Artifact.open(left)
    export(checkpoint, tmp_path / "out", INT8).verify()


def test_place_that_cannot_be_written_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DreamEdgeError, match="file"):
        export(checkpoint, tmp_path / "file" / "out", INT8)

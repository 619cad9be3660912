"""Exporting: what is written, and that its bytes repeat."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.recipe import SCHEMES, Recipe
from dream_edge_runtime.progress import Progress
from support.checkpoints import random_weights, write_checkpoint, write_weights
from support.graphs import Graph
from support.processes import run_python

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


# --- what an export writes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_exported_artifact_opens_and_verifies(checkpoint: Checkpoint, tmp_path: Path, scheme: str) -> None:
    made = export(checkpoint, tmp_path / "out", Recipe.for_scheme(scheme, layers=2))
    opened = Artifact.open(tmp_path / "out")
    opened.verify()
    assert opened == made
    assert opened.manifest.config == checkpoint.config
    assert opened.manifest.recipe == Recipe.for_scheme(scheme, layers=2)
    assert opened.manifest.generation == checkpoint.generation_defaults
    listed = {entry.name for entry in opened.manifest.files}
    assert listed == {"model_cpu.onnx", "weights-00001.bin", "tokenizer.json"}
    assert set(contents(tmp_path / "out")) == listed | {"manifest.json", "README.md"}


def test_the_card_may_be_edited(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """As people do with a model that they publish."""
    export(checkpoint, tmp_path / "out", INT8)
    (tmp_path / "out" / "README.md").write_text("# My favourite model\n", encoding="utf-8")
    Artifact.open(tmp_path / "out").verify()


def test_directories_above_are_made_and_names_may_be_anything(checkpoint: Checkpoint, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "a b" / "ñ 夢", INT8)
    Artifact.open(tmp_path / "a b" / "ñ 夢").verify()


def test_an_empty_directory_is_filled(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(checkpoint, tmp_path / "out", INT8).verify()


def test_progress_ends_at_the_whole(checkpoint: Checkpoint, tmp_path: Path) -> None:
    seen: list[Progress] = []
    export(checkpoint, tmp_path / "out", INT8, progress=seen.append)
    assert [step.done for step in seen] == sorted({step.done for step in seen})
    assert seen[-1].done == seen[-1].total == sum(checkpoint.tensor(name).nbytes for name in checkpoint.names)


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
    tied = export(Checkpoint.open(tmp_path / "tied"), tmp_path / "tied.out", Recipe.for_scheme(scheme, layers=2))
    recipe = tied.manifest.recipe
    untied = export(Checkpoint.open(tmp_path / "untied"), tmp_path / "untied.out", recipe)
    assert (logits(tied) == logits(untied)).all()
    saved = recipe.targets["cpu"].lm_head.stored_bytes(config.vocab_size, config.hidden_size)
    assert sum(file.size for file in untied.manifest.files if file.name.endswith(".bin")) - saved == sum(
        file.size for file in tied.manifest.files if file.name.endswith(".bin")
    )


def test_licence_of_the_checkpoint_is_carried_over(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "README.md").write_text(
        "---\nlicense: apache-2.0\n---\n# A model\nlicense: mit\n", "utf-8"
    )
    made = export(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "out", INT8)
    assert made.manifest.license == "apache-2.0"
    assert "\nlicense: apache-2.0\n" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


# --- the same bytes --------------------------------------------------------------------------------------------------

EXPORT = """
import os, sys, torch
from pathlib import Path
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.format.recipe import Recipe
os.umask(int(sys.argv[4], 8))
torch.set_num_threads(int(sys.argv[3]))
export(Checkpoint.open(Path(sys.argv[1])), Path("out"), Recipe.for_scheme(sys.argv[2]))
"""


def test_bytes_repeat_in_another_process_directory_umask_and_number_of_threads(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", vocab_size=2048)
    shutil.copytree(tmp_path / "checkpoint", tmp_path / "a copy" / "checkpoint")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    here = export(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "out", Recipe.for_scheme("int4"))
    torch.set_num_threads(threads)
    run = run_python(EXPORT, tmp_path / "a copy" / "checkpoint", "int4", "2", "077", cwd=tmp_path / "a copy")
    assert run.returncode == 0, run.stderr
    assert contents(tmp_path / "a copy" / "out") == contents(here.path)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bytes_do_not_depend_on_slices_strips_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    recipe = Recipe.for_scheme(scheme, layers=1)
    write_checkpoint(tmp_path / "checkpoint", num_hidden_layers=1, vocab_size=1100, intermediate_size=640)
    checkpoint = Checkpoint.open(tmp_path / "checkpoint")
    whole = contents(export(checkpoint, tmp_path / "whole", recipe).path)
    monkeypatch.setattr("dream_edge_export.quantize.weights._SLICE_WEIGHTS", 1)  # 256 rows at a time
    monkeypatch.setattr("dream_edge_export.quantize.weights.LARGEST_STRIP", 10_000)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        sliced = contents(export(checkpoint, tmp_path / "sliced", recipe).path)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert sliced == whole


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

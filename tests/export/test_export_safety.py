"""Exporting over what is already there, and exports that fail: nothing is lost and no half is left."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.checkpoint.forms import parse_config
from dream_edge_export.errors import NonFiniteWeights, OutputExists, OutputForeign
from dream_edge_export.export import export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import ArtifactError, DreamEdgeError, NotWritable
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.progress import Progress
from support.checkpoints import config_dict, random_weights, write_checkpoint, write_weights
from support.systems import make_link

INT8 = Recipe.for_scheme("int8")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    write_checkpoint(tmp_path / "checkpoint")
    return Checkpoint.open(tmp_path / "checkpoint")


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def only(parent: Path, *names: str) -> bool:
    """Nothing is beside these: no staging directory, no half of an artifact."""
    return {entry.name for entry in parent.iterdir()} == set(names)


def loading(parent: Path) -> set[Path]:
    """Every directory in or under `parent` that opens as an artifact."""
    found = set()
    for directory in (path for path in parent.rglob("*") if path.is_dir()):
        with suppress(ArtifactError):
            found.add(Artifact.open(directory).path)
    return found


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
        out.write_text("mine", "utf-8")
        return
    if kind == "link":
        (out.parent / "elsewhere").mkdir()
        (out.parent / "elsewhere" / "manifest.json").write_text("{}", "utf-8")
        make_link(out, out.parent / "elsewhere", target_is_directory=True)
        return
    out.mkdir()
    match kind:
        case "readme":
            (out / "README.md").write_text("my notes", "utf-8")
        case "manifest_of_something_else":
            (out / "manifest.json").write_text("{}", "utf-8")
            (out / "README.md").write_text("a browser extension", "utf-8")
        case "checkpoint":
            write_checkpoint(out)
        case "artifact_with_more":
            (out / "manifest.json").write_text("{}", "utf-8")
            (out / "model_cpu.onnx").write_text("", "utf-8")
            (out / "thesis.docx").write_text("mine", "utf-8")
        case "directory_in_disguise":
            (out / "manifest.json").write_text("{}", "utf-8")
            (out / "model_cpu.onnx").write_text("", "utf-8")
            (out / "README.md").mkdir()
            (out / "README.md" / "thesis.docx").write_text("mine", "utf-8")


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
    weights = random_weights(parse_config(config_dict()))
    weights["lm_head.weight"][5, 5] = torch.nan
    write_checkpoint(directory)
    write_weights(directory, weights)
    return Checkpoint.open(directory)


def test_damaged_tensor_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteWeights, match=r"lm_head\.weight"):
        export(spoil(tmp_path / "checkpoint"), tmp_path / "out", INT8)
    assert only(tmp_path, "checkpoint")


@pytest.mark.parametrize("stage", ["_Writing._write_weights", "write_file", "format_card", "derive_graph"])
def test_old_artifact_survives_a_failed_replacement(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    out = tmp_path / "out"
    export(checkpoint, out, INT8)
    before = contents(out)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"dream_edge_export.export.{stage}", fail)
        with pytest.raises(NotWritable, match="No space left"):
            export(checkpoint, out, Recipe.for_scheme("int4"), force=True)
    assert contents(out) == before
    assert loading(tmp_path) == {out}
    export(checkpoint, out, Recipe.for_scheme("int4"), force=True).verify()
    assert only(tmp_path, "checkpoint", "out")


def test_old_artifact_returns_when_the_new_one_cannot_take_its_place(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export(checkpoint, out, INT8)
    before = contents(out)
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if "artifact" in (self.name, self.parent.name):
            raise PermissionError(13, "Permission denied")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(NotWritable):
            export(checkpoint, out, Recipe.for_scheme("int4"), force=True)
    assert contents(out) == before
    assert export(checkpoint, out, Recipe.for_scheme("int4"), force=True).manifest.recipe.scheme == "int4"
    assert only(tmp_path, "checkpoint", "out")


def test_interrupt_before_anything_is_finished_leaves_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, tmp_path / "out", INT8, progress=interrupt)
    assert only(tmp_path, "checkpoint")


def test_place_that_cannot_be_written_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(DreamEdgeError, match="file"):
        export(checkpoint, tmp_path / "file" / "out", INT8)

"""Exports that were interrupted: what is kept, what the next one does with it, and when it does not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.errors import CheckpointChanged, NonFiniteWeights, OutputExists
from dream_edge_export.export import export
from dream_edge_export.output.staging import locate_staging
from dream_edge_export.plan import plan_export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import ArtifactError
from dream_edge_runtime.format.recipe import SCHEMES, Recipe
from dream_edge_runtime.progress import Progress
from support.checkpoints import random_weights, write_checkpoint, write_weights

INT4 = Recipe.for_scheme("int4")


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """A checkpoint of two shards; every weight is journalled as soon as it is written."""
    monkeypatch.setattr("dream_edge_export.export.JOURNAL_EVERY", 0)
    write_checkpoint(tmp_path / "checkpoint", shards=2, num_hidden_layers=1, hidden_size=128)
    return Checkpoint.open(tmp_path / "checkpoint")


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def interrupted(
    checkpoint: Checkpoint, out: Path, recipe: Recipe = INT4, *, at: float = 0.5, error: BaseException | None = None
) -> Path:
    """Start an export that stops when the share `at` is done; where its work lies."""

    def stop(step: Progress) -> None:
        if step.done >= at * step.total:
            raise error or KeyboardInterrupt

    with pytest.raises(type(error or KeyboardInterrupt())):
        export(checkpoint, out, recipe, progress=stop)
    return locate_staging(out)


def first_step(checkpoint: Checkpoint, out: Path, recipe: Recipe = INT4) -> float:
    """Run an export to its end; the share of the work at which it began."""
    steps: list[Progress] = []
    export(checkpoint, out, recipe, progress=steps.append).verify()
    assert steps[-1].done == steps[-1].total
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    return steps[0].done / steps[0].total


@pytest.mark.parametrize(
    ("scheme", "target", "at"),
    [("int4", "all", 0.1), ("int4", "cpu", 1.0), *((scheme, "cpu", 0.5) for scheme in SCHEMES)],
)
def test_next_run_goes_on_and_ends_with_the_same_bytes(
    checkpoint: Checkpoint, tmp_path: Path, scheme: str, target: str, at: float
) -> None:
    recipe = Recipe.for_scheme(scheme, layers=1, target=target)
    undisturbed = contents(export(checkpoint, tmp_path / "undisturbed", recipe).path)
    kept = interrupted(checkpoint, tmp_path / "out", recipe, at=at)
    assert not (tmp_path / "out").exists()
    for directory in (kept, kept / "artifact"):
        with pytest.raises(ArtifactError):
            Artifact.open(directory)
    begun = first_step(checkpoint, tmp_path / "out", recipe)
    assert at - 0.3 < begun <= at
    assert contents(tmp_path / "out") == undisturbed
    assert not kept.exists()


def test_work_is_found_again_by_another_name_of_the_place(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(checkpoint, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert first_step(checkpoint, Path("checkpoint") / ".." / "out") > 0.2


def test_interrupted_many_times(checkpoint: Checkpoint, tmp_path: Path) -> None:
    undisturbed = contents(export(checkpoint, tmp_path / "undisturbed", INT4).path)
    for percent in range(0, 100, 15):
        interrupted(checkpoint, tmp_path / "out", at=percent / 100)
    first_step(checkpoint, tmp_path / "out")
    assert contents(tmp_path / "out") == undisturbed


def test_what_the_plan_calls_finished_is_kept(checkpoint: Checkpoint, tmp_path: Path) -> None:
    plan = plan_export(checkpoint, INT4)
    assert plan.finished_bytes(tmp_path / "out") == 0
    kept = interrupted(checkpoint, tmp_path / "out")
    finished = plan.finished_bytes(tmp_path / "out")
    stored = sum(file.stat().st_size for file in (kept / "artifact").iterdir())
    assert 0.8 * stored < finished <= stored
    export(checkpoint, tmp_path / "out", INT4)
    assert plan.finished_bytes(tmp_path / "out") == 0


# --- work that is not gone on with -----------------------------------------------------------------------------------


def touch(kept: Path) -> None:
    file = next(kept.parent.glob("checkpoint/*.safetensors"))
    os.utime(file, ns=(1, 1))


def flip(kept: Path) -> None:
    shard = kept / "artifact" / "weights-00001.bin"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)


def cut(kept: Path) -> None:
    os.truncate(kept / "artifact" / "weights-00001.bin", 1000)


def lose(kept: Path) -> None:
    (kept / "artifact" / "weights-00001.bin").unlink()


def other_key(kept: Path) -> None:
    lines = (kept / "journal").read_bytes().split(b"\n", 1)
    (kept / "journal").write_bytes(json.dumps({"key": "0" * 64}).encode() + b"\n" + lines[1])


def nonsense(kept: Path) -> None:
    (kept / "journal").write_bytes(os.urandom(1000))


@pytest.mark.parametrize("damage", [touch, flip, cut, lose, other_key, nonsense])
def test_work_that_is_not_what_the_journal_says_is_begun_anew(
    checkpoint: Checkpoint, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    undisturbed = contents(export(checkpoint, tmp_path / "undisturbed", INT4).path)
    damage(interrupted(checkpoint, tmp_path / "out"))
    assert first_step(Checkpoint.open(checkpoint.path), tmp_path / "out") == 0
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("lost", [1, 30, 200])
def test_torn_journal_is_read_as_far_as_it_is_whole(checkpoint: Checkpoint, tmp_path: Path, lost: int) -> None:
    undisturbed = contents(export(checkpoint, tmp_path / "undisturbed", INT4).path)
    journal = interrupted(checkpoint, tmp_path / "out") / "journal"
    os.truncate(journal, journal.stat().st_size - lost)
    interrupted(checkpoint, tmp_path / "out", at=0.7)  # appends after the tear
    assert first_step(checkpoint, tmp_path / "out") > 0.4
    assert contents(tmp_path / "out") == undisturbed


def test_other_recipe_begins_anew_and_never_mixes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    eight = Recipe.for_scheme("int8")
    undisturbed = contents(export(checkpoint, tmp_path / "undisturbed", eight).path)
    interrupted(checkpoint, tmp_path / "out")
    assert first_step(checkpoint, tmp_path / "out", eight) == 0
    assert contents(tmp_path / "out") == undisturbed


def test_other_weights_of_the_same_size_begin_anew(checkpoint: Checkpoint, tmp_path: Path) -> None:
    interrupted(checkpoint, tmp_path / "out")
    write_weights(checkpoint.path, random_weights(checkpoint.config, seed=5), shards=2)
    again = Checkpoint.open(checkpoint.path)
    undisturbed = contents(export(again, tmp_path / "undisturbed", INT4).path)
    assert first_step(again, tmp_path / "out") == 0
    assert contents(tmp_path / "out") == undisturbed


# --- the checkpoint changes under it ---------------------------------------------------------------------------------


def rewrite_in_place(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:-4] + bytes(4))


def replace_by_another(file: Path) -> None:
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    copy.replace(file)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("change", [rewrite_in_place, replace_by_another, truncate, Path.unlink])
def test_checkpoint_that_changes_meanwhile_is_named_and_nothing_is_kept(
    checkpoint: Checkpoint, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    file = checkpoint.files[1]

    def disturb(step: Progress) -> None:
        if step.done > step.total / 10 and not changed:
            changed.append(step)
            change(file)

    changed: list[Progress] = []
    with pytest.raises(CheckpointChanged, match=file.name):
        export(checkpoint, tmp_path / "out", INT4, progress=disturb)
    assert {entry.name for entry in tmp_path.iterdir()} == {"checkpoint"}


def test_damaged_weights_are_not_kept_for_another_try(checkpoint: Checkpoint, tmp_path: Path) -> None:
    weights = random_weights(checkpoint.config)
    weights["lm_head.weight"][5, 5] = torch.nan
    write_weights(checkpoint.path, weights, shards=2)
    with pytest.raises(NonFiniteWeights):
        export(Checkpoint.open(checkpoint.path), tmp_path / "out", INT4)
    assert {entry.name for entry in tmp_path.iterdir()} == {"checkpoint"}


# --- replacing --------------------------------------------------------------------------------------------------------


def test_old_artifact_comes_back_after_a_crash_between_the_renames(checkpoint: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "out"
    old = contents(export(checkpoint, out, Recipe.for_scheme("int8")).path)
    locate_staging(out).mkdir()
    out.rename(locate_staging(out) / "replaced")
    with pytest.raises(OutputExists):
        export(checkpoint, out, INT4)
    assert contents(out) == old
    assert not locate_staging(out).exists()


def test_files_of_others_in_the_hidden_directory_are_left_alone(checkpoint: Checkpoint, tmp_path: Path) -> None:
    locate_staging(tmp_path / "out").mkdir()
    (locate_staging(tmp_path / "out") / "mine").write_text("mine", "utf-8")
    export(checkpoint, tmp_path / "out", INT4)
    assert (locate_staging(tmp_path / "out") / "mine").read_text("utf-8") == "mine"

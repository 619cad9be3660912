"""Making a base: killed anywhere it goes on, and nothing half-made is left under its name."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dream_edge.quality import Base, BasePlan, Evaluation, build_base, draw_evaluation, temporary_base
from dream_edge.quality.errors import NonFiniteReference, OtherBase
from dream_edge.quality.reference.build import stage_reference, working_directory
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.errors import CheckpointChanged, NonFiniteWeights
from dream_edge_export.output.journal import Journal
from dream_edge_export.reference import staged
from dream_edge_export.reference.staged import StagedReference
from dream_edge_runtime.errors import NotEnoughDisk, NotWritable, OutputBusy
from dream_edge_runtime.progress import Progress
from support.checkpoints import random_weights, write_checkpoint, write_weights

TEXTS = ["The quick brown fox jumps over the lazy dog.", "a", "What is the capital of the other country?"]
STEPS = 4 + 3  # the embedding, two layers, the asked rows; rows in three parts


class Killed(BaseException):
    """Nothing may catch it as an error, as nothing catches a signal."""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    write_checkpoint(tmp_path / "checkpoint")
    return Checkpoint.open(tmp_path / "checkpoint")


@pytest.fixture
def evaluation(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    """Its rows take three parts."""
    found = draw_evaluation(checkpoint, data=TEXTS, sequences=6)
    rows = -(-found.rows // 3)
    monkeypatch.setattr(staged, "LARGEST_LOGITS", rows * 4 * checkpoint.config.vocab_size)
    return found


@pytest.mark.parametrize("after", ["computed", "recorded"])
@pytest.mark.parametrize("step", range(STEPS))
def test_killed_at_any_step_it_goes_on_and_gives_the_same_bytes(
    checkpoint: Checkpoint,
    evaluation: Evaluation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    after: str,
) -> None:
    """Killed once a step's bytes are written, before or after the journal says so."""
    whole = build_base(checkpoint, evaluation, tmp_path / "whole.base").path.read_bytes()
    path, record, ran = tmp_path / "killed.base", Journal.record, []

    def killed(self: Journal, *arguments: Any) -> None:
        ran.append(step)
        if len(ran) == step + 1 and after == "computed":
            raise Killed
        record(self, *arguments)
        if len(ran) == step + 1:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "record", killed)
        with pytest.raises(Killed):
            build_base(checkpoint, evaluation, path)
    assert not path.exists()
    stages: list[int] = []
    run = StagedReference.run

    def noted(self: StagedReference, stage: int, *rest: Any) -> None:
        stages.append(stage)
        run(self, stage, *rest)

    monkeypatch.setattr(StagedReference, "run", noted)
    assert build_base(checkpoint, evaluation, path).path.read_bytes() == whole
    assert stages == [*range(min(4, step + (after == "recorded")), 4)]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint", "killed.base", "whole.base"]


def kill_at(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint, evaluation: Evaluation, path: Path, count: int
) -> None:
    """Leave what `count` finished steps leave."""
    record, seen = Journal.record, []

    def killed(self: Journal, *arguments: Any) -> None:
        record(self, *arguments)
        seen.append(1)
        if len(seen) == count:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "record", killed)
        with pytest.raises(Killed):
            build_base(checkpoint, evaluation, path)


@pytest.mark.parametrize("lost", ["stage-2", "stage-3", "base"])
def test_work_of_which_a_part_is_gone_begins_anew(
    checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    whole = build_base(checkpoint, evaluation, tmp_path / "whole.base").path.read_bytes()
    path = tmp_path / "killed.base"
    kill_at(monkeypatch, checkpoint, evaluation, path, {"stage-2": 3, "stage-3": 4, "base": 6}[lost])
    (working_directory(path) / lost).unlink()
    assert build_base(checkpoint, evaluation, path).path.read_bytes() == whole


def test_the_work_of_another_evaluation_is_not_continued(
    checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "killed.base"
    kill_at(monkeypatch, checkpoint, evaluation, path, 6)
    other = draw_evaluation(checkpoint, data=TEXTS, sequences=6, seed=1)
    found = build_base(checkpoint, other, path).path.read_bytes()
    assert found == build_base(checkpoint, other, tmp_path / "whole.base").path.read_bytes()


def test_the_work_on_other_weights_is_not_continued(
    checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same geometry, at the same place, equal in every first row."""
    path = tmp_path / "killed.base"
    kill_at(monkeypatch, checkpoint, evaluation, path, 3)
    weights = random_weights(checkpoint.config)
    weights["model.layers.0.mlp.up_proj.weight"][5] *= 2
    write_weights(checkpoint.path, weights)
    os.utime(checkpoint.path / "model.safetensors", ns=(1, 1))
    changed = Checkpoint.open(checkpoint.path)
    found = build_base(changed, evaluation, path).path.read_bytes()
    assert found == build_base(changed, evaluation, tmp_path / "whole.base").path.read_bytes()


def test_a_base_that_is_there_is_not_made_again(
    checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else was kept with it."""
    build_base(checkpoint, evaluation, tmp_path / "a.base").with_extra("noise", 1)
    monkeypatch.setattr(StagedReference, "run", None)
    assert build_base(checkpoint, evaluation, tmp_path / "a.base").extra("noise") == 1


@pytest.mark.parametrize("content", [b"a diary", None], ids=["a file", "another base"])
def test_something_else_at_the_place_stays(
    checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "a.base"
    if content is None:
        build_base(checkpoint, draw_evaluation(checkpoint, data=TEXTS, sequences=2), path)
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(OtherBase, match="something else"):
        build_base(checkpoint, evaluation, path)
    assert path.read_bytes() == before


def test_too_little_room_is_known_before_anything_is_written(
    checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = BasePlan(checkpoint, evaluation).working_bytes

    class Usage:
        free = needed - 100

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(NotEnoughDisk, match="--sequences"):
        build_base(checkpoint, evaluation, tmp_path / "a.base")
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_the_announced_size_is_the_size(checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path) -> None:
    plan = BasePlan(checkpoint, evaluation)
    assert build_base(checkpoint, evaluation, tmp_path / "a.base").path.stat().st_size == plan.file_bytes


@pytest.mark.parametrize("count", [1, 8, 14])
def test_a_disk_that_fills_up_is_an_error_and_the_work_goes_on_later(
    checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    path, sync, synced = tmp_path / "a.base", os.fsync, []

    def full(fd: int) -> None:
        synced.append(1)
        if len(synced) > count:
            raise OSError(28, "No space left on device")
        sync(fd)

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(NotWritable, match="No space left"):
            build_base(checkpoint, evaluation, path)
    assert not path.exists()
    found = build_base(checkpoint, evaluation, path).path.read_bytes()
    assert found == build_base(checkpoint, evaluation, tmp_path / "whole.base").path.read_bytes()


def test_two_processes_do_not_make_one_base(checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "a.base"
    errors: list[int] = []

    def second(_: Progress) -> None:
        if not errors:
            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join()

    def attempt() -> None:
        with pytest.raises(OutputBusy):
            build_base(checkpoint, evaluation, path)
        errors.append(1)

    build_base(checkpoint, evaluation, path, progress=second)
    assert errors == [1]


def test_damaged_weights_are_named_and_nothing_is_left(
    checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path
) -> None:
    weights = random_weights(checkpoint.config)
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = np.nan
    write_weights(checkpoint.path, weights)
    with pytest.raises(NonFiniteWeights, match=r"layers\.1\.mlp"):
        build_base(Checkpoint.open(checkpoint.path), evaluation, tmp_path / "a.base")
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_weights_that_overflow_are_refused(checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path) -> None:
    weights = random_weights(checkpoint.config)
    weights["lm_head.weight"] *= 1e38
    write_weights(checkpoint.path, weights)
    with pytest.raises(NonFiniteReference, match="not numbers"):
        build_base(Checkpoint.open(checkpoint.path), evaluation, tmp_path / "a.base")


def test_a_checkpoint_that_changes_meanwhile_is_refused(
    checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path
) -> None:
    def touch(_: Progress) -> None:
        os.utime(checkpoint.path / "model.safetensors", ns=(1, 1))

    with pytest.raises(CheckpointChanged):
        build_base(checkpoint, evaluation, tmp_path / "a.base", progress=touch)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_a_temporary_base_is_gone_afterwards(checkpoint: Checkpoint, evaluation: Evaluation) -> None:
    with temporary_base(checkpoint, evaluation) as base:
        assert Base.open(base.path).evaluation.rows == evaluation.rows
    assert not base.path.parent.exists()


def test_progress_starts_where_an_earlier_run_stopped(
    checkpoint: Checkpoint, evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at(monkeypatch, checkpoint, evaluation, tmp_path / "a.base", 2)
    seen: list[tuple[float, float]] = []
    build_base(checkpoint, evaluation, tmp_path / "a.base", progress=lambda now: seen.append((now.done, now.total)))
    total = stage_reference(checkpoint, evaluation, tmp_path).work
    assert seen[0] == (1, total)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx((total, total))

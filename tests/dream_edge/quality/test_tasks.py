"""Task scores of artifacts beside their reference's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import dream_edge
from dream_edge.cli.app import app
from dream_edge.models import bundled
from dream_edge.quality.tasks import TaskScores, compare_tasks, reference_model, score_tasks, usual_shots
from dream_edge.tasks import sudoku
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference.networks import LayerwiseNetwork
from dream_edge_runtime.errors import InvalidOption


def test_a_comparison_worked_by_hand() -> None:
    reference = TaskScores(model="whole", shots=8, solved={"sudoku": "11110", "countdown": "1000000000"})
    artifact = TaskScores(model="small", shots=8, solved={"sudoku": "00111", "countdown": "1000000000"})
    found = compare_tasks(reference, artifact)
    first, second = found.tasks
    assert (found.artifact, first.task, first.cases, second.cases) == ("small", "sudoku", 5, 10)
    assert (first.reference, first.artifact, first.lost, first.gained) == (0.8, 0.6, 2, 1)
    assert first.difference == pytest.approx(-0.2)
    # differences -1 -1 0 0 1: their squares about the mean -0.2 sum to 2.8; √(2.8 / 4 / 5)
    assert first.difference_se == pytest.approx(0.374166, abs=1e-6)
    assert first.p_value == 1  # of 3 that differ 2 against 1: (3 + 1) · 2 / 8
    assert (second.difference, second.difference_se, second.p_value) == (0, 0, 1)
    assert (found.overall.cases, found.overall.lost, found.overall.gained) == (15, 2, 1)
    assert found.overall.reference == pytest.approx(5 / 15)
    assert json.loads(json.dumps(found.to_dict()))["tasks"][0]["difference_se"] == first.difference_se


def test_reference_and_artifact_solve_the_same_cases() -> None:
    """Both agree with a model that the tasks' own checker judges, one puzzle after the other."""
    checkpoint = Checkpoint.open(bundled("tiny"))
    assert usual_shots(checkpoint) == 0
    seen: list[tuple[float, float]] = []
    reference = reference_model(checkpoint)
    theirs = score_tasks(reference, "reference", tasks=["sudoku"], cases=3, shots=0)
    ours = score_tasks(
        dream_edge.load("tiny", threads=1),
        "artifact",
        tasks=["sudoku"],
        cases=3,
        shots=0,
        progress=lambda now: seen.append((now.done, now.total)),
    )
    assert (seen[0], seen[-1]) == ((0, 3), (3, 3))
    assert theirs.solved == ours.solved == {"sudoku": "111"}
    puzzle = "Input:\n1000\n0002\n4003\n0000\nOutput:\n"
    answer = reference.generate(puzzle, raw=True, exact=True, max_new_tokens=24).text
    assert sudoku.solves(puzzle, answer)


def test_a_reference_read_from_the_disk_solves_what_the_one_in_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint.open(bundled("tiny"))
    monkeypatch.setattr("dream_edge.quality.trajectory.follow.LARGEST_HELD", 0)
    streamed = reference_model(checkpoint)
    assert isinstance(streamed.network, LayerwiseNetwork)
    assert score_tasks(streamed, "streamed", tasks=["sudoku"], cases=2, shots=0, together=True).solved == {
        "sudoku": "11"
    }


def test_a_copy_of_the_tiny_model_is_asked_as_it_was_trained_too(tmp_path: Path) -> None:
    shutil.copytree(bundled("tiny"), tmp_path / "copy")
    assert usual_shots(Checkpoint.open(tmp_path / "copy")) == 0


def test_any_other_model_is_shown_examples(random_checkpoint: Path, random_artifact: Path) -> None:
    assert usual_shots(Checkpoint.open(random_checkpoint)) == 8
    found = score_tasks(dream_edge.load(random_artifact, threads=1), "random", cases=2)
    assert {task: len(solved) for task, solved in found.solved.items()} == {"sudoku": 2, "countdown": 2}


@pytest.mark.parametrize("option", [{"cases": 0}, {"cases": True}, {"cases": 2.0}, {"shots": -1}, {"tasks": ["chess"]}])
def test_impossible_options_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(option))):
        score_tasks(dream_edge.load("tiny", threads=1), "tiny", **option)


def test_command_prints_scores_and_adds_them_to_the_json() -> None:
    tasks = ["--tasks", "sudoku,countdown", "--cases", "2"]
    arguments = ["compare", "tiny", "--reference", "tiny", "--sequences", "2", "--no-trajectory", *tasks]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    heading = next(number for number, line in enumerate(lines) if line.startswith("task "))
    assert [line.split()[0] for line in lines[heading + 1 :]] == ["sudoku", "countdown", "all"]
    assert "100.0%" in lines[heading + 1]
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (document["tasks"]["overall"]["cases"], document["tasks"]["shots"]) == (4, 0)
    assert [task["task"] for task in document["tasks"]["tasks"]] == ["sudoku", "countdown"]


def test_command_asks_any_model(random_artifact: Path, random_checkpoint: Path) -> None:
    tasks = ["--tasks", "sudoku", "--cases", "2", "--shots", "1", "--sequences", "2", "--no-trajectory", "--json"]
    arguments = ["compare", str(random_artifact), "--reference", str(random_checkpoint), *tasks]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["tasks"]["shots"] == 1


@pytest.mark.parametrize("names", ["chess", "", "sudoku,chess"])
def test_command_refuses_unknown_tasks_before_it_measures_anything(names: str) -> None:
    result = CliRunner().invoke(app, ["compare", "tiny", "--reference", "tiny", "--tasks", names])
    assert result.exit_code == 2
    assert "countdown" in result.stderr
    assert "Comparing" not in result.stderr

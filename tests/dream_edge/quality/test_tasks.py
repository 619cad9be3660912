"""Task scores of artifacts beside their reference's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dream_edge
from dream_edge.cli.app import app
from dream_edge.models import bundled
from dream_edge.quality.errors import TasksNotLearnt
from dream_edge.quality.task_report import TaskScores
from dream_edge.quality.tasks import compare_tasks, score_tasks
from dream_edge.tasks import sudoku
from dream_edge.tasks.scoring import TASKS
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference.in_memory import reference_model
from dream_edge_runtime.errors import InvalidOption


def test_a_comparison_worked_by_hand() -> None:
    reference = TaskScores(model="whole", solved={"Sudoku": "11110", "Countdown": "1000000000"})
    artifact = TaskScores(model="small", solved={"Sudoku": "00111", "Countdown": "1000000000"})
    found = compare_tasks(reference, artifact)
    first, second = found.tasks
    assert (found.artifact, first.task, first.cases, second.cases) == ("small", "Sudoku", 5, 10)
    assert (first.reference, first.artifact, first.lost, first.gained) == (0.8, 0.6, 2, 1)
    assert first.difference == pytest.approx(-0.2)
    # differences -1 -1 0 0 1: their squares about the mean -0.2 sum to 2.8; √(2.8 / 4 / 5)
    assert first.difference_se == pytest.approx(0.374166, abs=1e-6)
    assert first.p_value == 1  # of 3 that differ 2 against 1: (3 + 1) · 2 / 8
    assert (second.difference, second.difference_se, second.p_value) == (0, 0, 1)
    assert (found.overall.cases, found.overall.lost, found.overall.gained) == (15, 2, 1)
    assert found.overall.reference == pytest.approx(5 / 15)
    assert json.loads(json.dumps(found.to_dict()))["tasks"][0]["difference_se"] == first.difference_se


def test_reference_and_artifact_solve_the_same_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both agree with a model that the tasks' own checker judges, one puzzle after the other."""
    monkeypatch.setattr("dream_edge.quality.tasks.TASKS", {"Sudoku": TASKS["Sudoku"]})
    seen: list[tuple[float, float]] = []
    artifact = dream_edge.load("tiny", threads=1)
    reference = reference_model(Checkpoint.open(bundled("tiny")))
    theirs = score_tasks(reference, "reference", cases=3)
    ours = score_tasks(artifact, "artifact", cases=3, progress=lambda now: seen.append((now.done, now.total)))
    assert seen == [(0, 3), (3, 3)]
    assert theirs.solved == ours.solved == {"Sudoku": "111"}
    puzzle = "Input:\n1000\n0002\n4003\n0000\nOutput:\n"
    answer = reference.generate(puzzle, raw=True, exact=True, max_new_tokens=24).text
    assert sudoku.solves(puzzle, answer)


def test_a_model_of_another_vocabulary_is_refused(random_artifact: Path) -> None:
    model = dream_edge.load(random_artifact, threads=1)
    with pytest.raises(TasksNotLearnt, match="lm-evaluation-harness"):
        score_tasks(model, "random")


@pytest.mark.parametrize("cases", [0, True, 2.0])
def test_impossible_numbers_of_cases_are_refused(cases: int) -> None:
    with pytest.raises(InvalidOption, match="cases"):
        score_tasks(dream_edge.load("tiny", threads=1), "tiny", cases=cases)


def test_command_prints_scores_and_adds_them_to_the_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dream_edge.quality.tasks.TASKS", {name: TASKS[name] for name in ("Sudoku", "sentences")})
    arguments = [
        "compare",
        "tiny",
        "--reference",
        "tiny",
        "--sequences",
        "2",
        "--no-trajectory",
        "--tasks",
        "--cases",
        "2",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    heading = next(number for number, line in enumerate(lines) if line.startswith("task "))
    assert [line.split()[0] for line in lines[heading + 1 :]] == ["Sudoku", "sentences", "all"]
    assert "100.0%" in lines[heading + 1]
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert document["tasks"]["overall"]["cases"] == 4
    assert [task["task"] for task in document["tasks"]["tasks"]] == ["Sudoku", "sentences"]


def test_command_refuses_tasks_before_it_measures_anything(random_artifact: Path, random_checkpoint: Path) -> None:
    arguments = ["compare", str(random_artifact), "--reference", str(random_checkpoint), "--tasks"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "dream-edge[eval]" in result.stderr
    assert "Comparing" not in result.stderr

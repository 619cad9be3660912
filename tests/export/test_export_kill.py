"""Exports that are killed at any moment: nothing but whole artifacts loads, and the next run ends the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dream_edge
from support.checkpoints import write_checkpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def kill(how: str, checkpoint: Path, directory: Path, count: int) -> dict[str, Any]:
    directory.mkdir()
    run = subprocess.run(
        [sys.executable, "-m", "support.killed", how, checkpoint, directory, str(count)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout)
    return result


@pytest.mark.parametrize(
    "count", [3, pytest.param(100, marks=pytest.mark.slow)], ids=["a_few_times", "a_hundred_times"]
)
def test_export_killed_at_random_ends_the_same_when_it_is_run_again(tmp_path: Path, count: int) -> None:
    tiny = Path(dream_edge.__file__).parent / "tiny"
    result = kill("at_random", tiny, tmp_path / "work", count)
    assert result["killed"] == count
    assert result["same"] == [True] * count
    assert result["loading"] == []


@pytest.mark.parametrize("stride", [60, pytest.param(1, marks=pytest.mark.slow)], ids=["sampled", "every_one"])
def test_replacement_killed_before_an_operation_leaves_the_old_or_the_new(tmp_path: Path, stride: int) -> None:
    write_checkpoint(tmp_path / "checkpoint", num_hidden_layers=1)
    result = kill("at_operations", tmp_path / "checkpoint", tmp_path / "work", stride)
    assert all(result["same"])
    assert len(result["same"]) >= 20
    assert result["loading"] == []
    assert result["missing"] == 1  # between the two renames, of which the next run undoes the first

"""benchmarks/gpu.py on the tiny model and the CPU: every part runs, and what was not measured is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dream_edge.models import bundled
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.format.recipe import Recipe

GPU = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str | Path) -> str:
    command = [sys.executable, GPU, *arguments, "--repeats", "1", "--new-tokens", "4"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=True).stdout


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe.for_scheme("int4", target="cuda")
    return export(Checkpoint.open(bundled("tiny")), tmp_path_factory.mktemp("gpu") / "tiny", recipe).path


def test_our_own_parts_run_on_the_cpu(artifact: Path) -> None:
    ours = "--parts", "dream-edge", "correctness"
    printed = run("tiny", "--artifact", artifact, "--device", "cpu", "--tokens", "8", *ours)
    assert "| 8 | dream-edge |" in printed
    assert "cached pass: logits differ by at most 0.00e+00" in printed
    assert "NOT MEASURED: PyTorch bf16: not asked for" in printed
    assert "NOT MEASURED: a GPU" in printed


@pytest.mark.slow
def test_every_part_runs_on_the_cpu(artifact: Path) -> None:
    found = json.loads(run("tiny", "--artifact", artifact, "--device", "cpu", "--tokens", "8", "33", "--json"))
    parts = found["parts"]
    assert set(parts["dream-edge"]["passes"]) == {"8", "33"}
    for part in ("dream-edge", "PyTorch bf16", "bitsandbytes NF4"):
        assert all(each["full_s"] > 0 for each in parts[part]["passes"].values()), part
    assert all(each["full_share_of_matmul"] > 0 for each in parts["dream-edge"]["passes"].values())
    assert all(each["same_top"] == 1 for each in parts["correctness"].values())
    assert parts["dream-edge"]["tokens_per_second_dual"] > 0
    assert {"a GPU", "expanded products"} <= set(found["not_measured"])


@pytest.mark.slow
def test_without_a_gpu_each_part_says_why(artifact: Path) -> None:
    """Where there is one, this test says nothing."""
    printed = run("tiny", "--artifact", artifact, "--tokens", "8")
    for part in ("dream-edge", "correctness", "PyTorch bf16", "ceilings"):
        assert f"NOT MEASURED: {part}: " in printed or f"{part} |" in printed

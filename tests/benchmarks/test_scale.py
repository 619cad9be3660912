"""benchmarks/scale.py on the tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCALE = Path(__file__).parents[2] / "benchmarks" / "scale.py"


def run(*arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(SCALE), *arguments, "--repeats", "1", "--peak-size", "64", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_scale_measures_loads_passes_and_an_answer() -> None:
    (found,) = run("tiny", "--tokens", "8", "16", "--cached", "16")
    assert "warm" in found["loads"]
    assert set(found["passes"]) == {"pass 8", "pass 16", "block 16"}
    assert all(each["milliseconds"] > 0 and each["share_of_peak"] > 0 for each in found["passes"].values())
    assert found["peak"]["kind"] == "int8"
    assert found["answer"]["tokens"] == 128
    assert found["answer"]["passes"] in range(64, 69)  # a block begins with a pass of its own
    assert found["bytes"] > 1e6


def test_a_slice_of_a_published_geometry_stands_for_the_whole() -> None:
    name = "Qwen2.5-Coder-0.5B-Instruct-diffusion-bd3lm-v0.1"
    (found,) = run(name, "--layers", "1", "--tokens", "32", "--cached", "32", "--tokens-per-pass", "16")
    assert (found["artifact"], found["times"]) == (name, 24)
    measured = found["loads"]["warm"]["pass 32"]
    assert found["passes"]["pass 32"]["milliseconds"] == pytest.approx(24_000 * measured)
    assert found["answer"]["tokens"] == 128
    assert found["answer"]["passes"] == 8  # two a block
    assert 0.1 < found["probe"]["full"] < 10

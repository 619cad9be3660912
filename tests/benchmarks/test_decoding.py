"""benchmarks/decoding.py on a handful of cases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

DECODING = Path(__file__).parents[2] / "benchmarks" / "decoding.py"


def test_decoding_compares_settings_with_the_official_loop(tmp_path: Path) -> None:
    figures, plot = tmp_path / "figures.json", tmp_path / "plots" / "plot.png"
    chosen = ["--cases", "6", "--tasks", "Sudoku", "sentences", "--settings", "fast", "--new-tokens", "40"]
    chosen += ["--json", str(figures), "--plot", str(plot)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, str(DECODING), *chosen],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    official, fast = json.loads(figures.read_text("utf-8"))["rows"]  # a hole has no room but its own
    assert [(row["setting"], row["task"]) for row in (official, fast)] == [("exact", "Sudoku"), ("fast", "Sudoku")]
    assert official["passes"] == 23
    assert fast["fewer_passes"] >= 3
    assert official["positions"] == 23 * (26 + 24)  # a prompt has 26 tokens
    assert fast["positions"] == sum(active * count for active, _, count in fast["passes_by_size"])
    assert fast["positions_per_token"] < official["positions_per_token"] / 3
    assert "| fast | Sudoku |" in run.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")

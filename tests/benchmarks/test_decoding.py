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
    chosen = ["--cases", "6", "--tasks", "Sudoku", "sentences", "--settings", "preset", "preset, room for 128"]
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
    official, _, preset, _, roomy = json.loads(figures.read_text("utf-8"))["rows"]  # a hole has no room but its own
    assert (official["setting"], preset["setting"]) == ("official", "preset")
    assert (roomy["setting"], roomy["task"]) == ("preset, room for 128", "Sudoku")
    assert official["passes"] == 23
    assert preset["fewer_passes"] >= 3
    assert preset["computed_tokens"] < official["computed_tokens"] / 3
    assert "| preset | Sudoku |" in run.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")

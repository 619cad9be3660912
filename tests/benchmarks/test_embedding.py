"""benchmarks/embedding.py on the tiny model: every figure is there and of the right size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

EMBEDDING = Path(__file__).parents[2] / "benchmarks" / "embedding.py"


def test_embedding_measures_every_figure() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, str(EMBEDDING), "tiny", "--tokens", "128", "--stops", "2", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(run.stdout)
    assert 0 < found["import"] < 60
    assert found["first_text"] > found["stop"]["step"] > 0
    assert 0 < found["stop"]["median"] <= found["stop"]["most"]
    assert found["late_generating"]["most"] >= found["late_generating"]["p99"] >= found["late_generating"]["median"]
    assert found["two_in_turn"] > found["text"] / 2
    if sys.platform == "linux":
        assert found["memory"]["loaded"] > found["memory"]["before"] + 3_000_000

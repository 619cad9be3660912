"""benchmarks/scale.py on the tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCALE = Path(__file__).parents[2] / "benchmarks" / "scale.py"


def test_scale_measures_loads_and_passes() -> None:
    command = [
        sys.executable,
        str(SCALE),
        "tiny",
        "--tokens",
        "8",
        "16",
        "--repeats",
        "1",
        "--peak-size",
        "64",
        "--json",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(run.stdout)
    assert "warm" in found["loads"]
    assert set(found["passes"]) == {"8", "16"}
    assert all(each["milliseconds"] > 0 and each["share_of_peak"] > 0 for each in found["passes"].values())
    assert found["peak"]["kind"] == "int8"

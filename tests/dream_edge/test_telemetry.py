"""Nothing is told to anybody: ONNX Runtime's wheels would send telemetry and keep a device id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "import dream_edge; print(dream_edge.load('tiny', threads=1).generate('Hi', max_new_tokens=2, steps=1).steps)"


@pytest.mark.parametrize("cache", ["XDG_CACHE_HOME", "HOME"])
def test_loading_and_generating_leave_no_files(tmp_path: Path, cache: str) -> None:
    unset = ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path), cache: str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.rglob("*")) == []

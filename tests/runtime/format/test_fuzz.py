"""The checks of a manifest, given bytes that nobody wrote."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from support.artifacts import make_artifact

FUZZER = Path(__file__).parents[3] / "tools" / "fuzz" / "fuzz_artifact.py"
SECONDS = 30


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris: pip install --group fuzz")
def test_fuzzing_for_half_a_minute_finds_nothing(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path, "int8", num_hidden_layers=1).path
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    command = [sys.executable, str(FUZZER), str(artifact), str(corpus), f"-max_total_time={SECONDS}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

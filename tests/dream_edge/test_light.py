"""The light half stays light: what importing, loading and generating pull in."""

from __future__ import annotations

import json
import os
import subprocess
import sys

HEAVY = ("torch", "transformers", "onnx", "safetensors", "typer", "rich")


def run_python(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_loading_and_generating_import_nothing_heavy() -> None:
    program = f"""
import json, sys
import dream_edge
text = dream_edge.load("tiny").generate("What sound does the dog make?", max_new_tokens=8).text
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    assert json.loads(run_python(program)) == []


def test_import_takes_under_three_tenths_of_a_second() -> None:
    """Of processor time, the best of five, since machines are busy."""
    program = "import time; start = time.process_time(); import dream_edge; print(time.process_time() - start)"
    assert min(float(run_python(program)) for _ in range(5)) < 0.3


def test_import_loads_no_runtime() -> None:
    program = "import sys, dream_edge; print('onnxruntime' in sys.modules)"
    assert run_python(program).strip() == "False"


def test_help_is_quick() -> None:
    """Processor time of the program, which Windows does not tell."""

    def seconds() -> float:
        start = os.times()
        subprocess.run([sys.executable, "-m", "dream_edge", "--help"], capture_output=True, check=True, timeout=60)
        end = os.times()
        return end.children_user + end.children_system - start.children_user - start.children_system

    assert min(seconds() for _ in range(3)) < 1.0

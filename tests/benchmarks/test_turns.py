"""benchmarks/turns.py on a random block-causal model: every turn is there, and finds the turns before it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from dream_edge_export.export import export
from dream_edge_runtime.format.recipe import Recipe
from support.family import FAMILY, write_family_checkpoint

TURNS = Path(__file__).parents[2] / "benchmarks" / "turns.py"


def test_turns_find_the_turns_before_them(tmp_path: Path) -> None:
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", **FAMILY["bd3lm-Qwen3-0.6B"])
    artifact = export(checkpoint, tmp_path / "artifact", Recipe.for_scheme("fp32", layers=2)).path
    command = [sys.executable, str(TURNS), str(artifact), "--turns", "3", "--question", "16", "--answer", "8"]
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert [each["given"] for each in found["kept"]] == [each["given"] for each in found["computed"]] == [16, 40, 64]
    assert [each["cached"] for each in found["kept"]] == [0, 16, 40]
    assert [each["cached"] for each in found["computed"]] == [0, 0, 0]
    assert all(0 < each["first_step"] <= each["text"] for each in [*found["kept"], *found["computed"]])
    assert found["equal"]
    assert found["blocks"] == 64 // 8
    table = subprocess.run([*command, "--threads", "1"], capture_output=True, text=True, check=True).stdout
    assert "The same tokens both ways" in table


def test_a_model_of_full_attention_has_no_turns() -> None:
    ended = subprocess.run([sys.executable, str(TURNS), "tiny"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "not block-causal" in ended.stderr

"""The benchmark of a shared lm_head runs, and counts one matrix less where it is shared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "shared_head.py"


def test_a_shared_matrix_is_stored_once() -> None:
    sizes = ("--vocabulary", "8192", "--hidden", "256", "--rows", "4")
    printed = subprocess.run([sys.executable, PROGRAM, *sizes], check=True, capture_output=True, text=True).stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()]
    assert [len(row) for row in rows] == [5] * 5
    two, by_row, in_groups = (int(row[1]) for row in rows[2:])
    assert (two, by_row, in_groups) == (4, 2, 2)

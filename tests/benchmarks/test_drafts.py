"""benchmarks/drafts.py on a few cases: what it counts, and that bound 0 changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DRAFTS = Path(__file__).parents[2] / "benchmarks" / "drafts.py"


def test_wrong_words_are_found_and_a_bound_of_zero_finds_none() -> None:
    command = [sys.executable, str(DRAFTS), "--cases", "6", "--groups", "4", "--bounds", "0", "0.03"]
    _, *rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    table = {tuple(row.split(" | ")[:3]): row.split(" | ")[3:] for row in rows}
    assert {name for name, _, _ in table} == {"any word", "a word of its kind", "digits"}
    for (_, groups, bound), figures in table.items():
        if bound == "0.0":
            assert figures == ["0.0%", "0.0%", "0.0%", "0.0%", "100.0%", f"{float(groups):.1f}"]
        else:
            assert float(figures[0].rstrip("%")) >= 50
            assert float(figures[1].rstrip("%")) <= 10

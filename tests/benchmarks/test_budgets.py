"""benchmarks/budgets.py: what it prints."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "budgets.py"


def test_schemes_stand_beside_measured_recipes_of_their_size() -> None:
    spec = importlib.util.spec_from_file_location("budgets", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    budgets = sys.modules["budgets"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(budgets)
    rows = [
        budgets.Row("mixed-128", (5.17, 0.004, 0.0002), (5.165, 0.003, 0.0001)),
        budgets.Row("int4-128", (4.8, 0.005, 0.0003), (4.79, 0.005, 0.0003)),
    ]
    assert budgets.table(rows).splitlines()[2:] == [
        "| int4-128 | 4.800 | 0.00500 ± 0.00030 | 4.790 | 0.00500 ± 0.00030 | 100% |",
        "| mixed-128 | 5.170 | 0.00400 ± 0.00020 | 5.165 | 0.00300 ± 0.00010 | 75% |",
    ]

"""The program that goes through the product on other machines: what it finds, and that it does find failures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import dream_edge
from dream_edge_runtime.format.recipe import Scheme
from tools.machines import arm64, prepare, smoke

SCHEMES: tuple[Scheme, ...] = ("int8", "int4")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As prepare.py makes it, with two schemes."""
    out = tmp_path_factory.mktemp("machines")
    artifacts = {scheme: dream_edge.export("tiny", out / scheme, scheme=scheme) for scheme in SCHEMES}
    exact = {scheme: prepare.exact_logits(artifact) for scheme, artifact in artifacts.items()}
    np.savez_compressed(out / "exact.npz", allow_pickle=False, **exact)
    (out / "results").mkdir()
    assert not smoke.go_through(out, out / "results", out / "results", SCHEMES).failed
    return out


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # put back, whatever the program sets


def test_exact_logits_are_as_far_away_as_rounding_explains(prepared: Path) -> None:
    with np.load(prepared / "exact.npz") as exact, np.load(prepared / "results" / "logits.npz") as found:
        for scheme in SCHEMES:
            assert 0 < np.abs(found[scheme] - exact[scheme]).max() < 0.05 * np.abs(exact[scheme]).max()


def test_same_machine_agrees_and_says_so(prepared: Path, tmp_path: Path) -> None:
    report = smoke.go_through(prepared, tmp_path, prepared / "results", SCHEMES)
    outcomes = {step["step"]: step["outcome"] for step in report.steps}
    assert not report.failed
    assert outcomes["int8 compare"].startswith("0 apart")
    assert outcomes["texts"] == "8 of 8 are the same"
    assert json.loads((tmp_path / "results.json").read_text("utf-8"))["steps"] == report.steps


def test_damaged_artifact_fails_its_steps_and_the_others_go_on(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "prepared")
    with (tmp_path / "prepared" / "int8" / "weights-00001.bin").open("r+b") as file:
        file.seek(1_000_000)
        file.write(bytes(200_000))
    report = smoke.go_through(tmp_path / "prepared", tmp_path, prepared / "results", SCHEMES)
    failed = {step["step"] for step in report.steps if not step["passed"]}
    assert failed == {"int8 verify", "int8 compare"}


def test_activations_of_seven_bits_double_the_distance_that_is_allowed() -> None:
    exact, other = np.zeros(4), np.full(4, 1.0)
    assert smoke.compare(np.full(4, -1.9), exact, other, 2.0).startswith("2.9 apart, bound 3")
    with pytest.raises(RuntimeError, match=r"2\.9 apart, bound 2"):
        smoke.compare(np.full(4, -1.9), exact, other, 1.0)


def test_refused_command_is_a_failure_with_its_message(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"exit 1: .*no artifact here"):
        smoke.command("verify", str(tmp_path))


def test_table_has_a_row_for_each_scheme_and_processor(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "prepared")
    for cpu in ("max", "cortex-a72"):
        (tmp_path / f"results-{cpu}").mkdir()
        smoke.go_through(prepared, tmp_path / f"results-{cpu}", prepared / "results", SCHEMES, ["bench", "serve"])
    rows = [row.strip("| ").split(" | ") for row in list(arm64.table(tmp_path, ["max", "cortex-a72"]))[2:]]
    assert [row[::2] for row in rows] == [
        [cpu, scheme, "0", "4 of 4"] for cpu in ("max", "cortex-a72") for scheme in SCHEMES
    ]
    assert all(row[3] == "8 of 8" and float(row[5]) > 0 for row in rows)

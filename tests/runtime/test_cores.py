"""How many threads a pass gets, from files as Linux writes them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dream_edge_runtime import cores
from dream_edge_runtime.cores import _limit, _physical, default_threads


@pytest.fixture(autouse=True)
def no_number_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def machine(root: Path, processors: list[tuple[int, int]]) -> Path:
    """Logical processors by (package, core)."""
    for number, (package, core) in enumerate(processors):
        write(root / f"cpu{number}/topology/physical_package_id", f"{package}\n")
        write(root / f"cpu{number}/topology/core_id", f"{core}\n")
    return root


def test_hyper_threads_of_a_core_count_once(tmp_path: Path) -> None:
    root = machine(tmp_path, [(0, 0), (0, 1), (1, 0), (1, 1)] * 2)
    assert _physical(range(8), root) == 4
    assert _physical({0, 4}, root) == 1
    assert _physical({0, 1, 2}, root) == 3


def test_processors_whose_place_is_unknown_count_each(tmp_path: Path) -> None:
    assert _physical({0, 3}, tmp_path) == 2


@pytest.mark.parametrize(("text", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)])
def test_limit_of_processor_time_is_rounded_up(tmp_path: Path, text: str, expected: int) -> None:
    membership = write(tmp_path / "cgroup", "0::/box\n")
    write(tmp_path / "fs/box/cpu.max", f"{text}\n")
    assert _limit(tmp_path / "fs", membership) == expected


def test_tightest_group_counts(tmp_path: Path) -> None:
    membership = write(tmp_path / "cgroup", "0::/outer/inner\n")
    write(tmp_path / "fs/outer/inner/cpu.max", "max 100000\n")
    assert _limit(tmp_path / "fs", membership) is None
    write(tmp_path / "fs/outer/cpu.max", "300000 100000\n")
    assert _limit(tmp_path / "fs", membership) == 3
    write(tmp_path / "fs/outer/inner/cpu.max", "100000 100000\n")
    assert _limit(tmp_path / "fs", membership) == 1


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    membership = write(tmp_path / "cgroup", "4:memory:/box\n2:cpu,cpuacct:/box\n")
    write(tmp_path / "fs/cpu/box/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "fs/cpu/box/cpu.cfs_period_us", "100000\n")
    assert _limit(tmp_path / "fs", membership) is None
    write(tmp_path / "fs/cpu/box/cpu.cfs_quota_us", "400000\n")
    assert _limit(tmp_path / "fs", membership) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says")
def test_affinity_and_limit_both_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_PROCESSORS", machine(tmp_path / "cpu", [(0, core) for core in range(64)]))
    monkeypatch.setattr(cores, "_MEMBERSHIP", write(tmp_path / "cgroup", "0::/\n"))
    monkeypatch.setattr(cores, "_GROUPS", tmp_path / "fs")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert default_threads() == 8
    write(tmp_path / "fs/cpu.max", "200000 100000\n")
    assert default_threads() == 2


@pytest.mark.skipif(sys.platform != "linux", reason="binds itself as only Linux can")
def test_bound_process_starts_no_more_threads_than_it_has_cores() -> None:
    """ONNX Runtime's own count would start one for each core of the machine, and bind them outside of ours."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert default_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_number_that_is_asked_for_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    own = default_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_threads() == 3
    for unusable in ("0", "", "4,2", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", unusable)
        assert default_threads() == own

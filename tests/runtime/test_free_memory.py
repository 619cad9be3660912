"""How much memory is free, from files as Linux writes them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dream_edge_runtime.free_memory import _available, _left_in_group, free_memory


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_available_is_the_kernels_estimate(tmp_path: Path) -> None:
    meminfo = write(tmp_path / "meminfo", "MemTotal: 16 kB\nMemFree: 1 kB\nMemAvailable:   12345 kB\n")
    assert _available(meminfo) == 12345 * 1024
    assert _available(tmp_path / "none") is None


def test_tightest_group_counts_and_file_cache_can_be_dropped(tmp_path: Path) -> None:
    membership = write(tmp_path / "cgroup", "0::/outer/inner\n")
    root = tmp_path / "fs"
    write(root / "outer/memory.max", "3000\n")
    write(root / "outer/memory.current", "2500\n")
    write(root / "outer/memory.stat", "anon 5\ninactive_file 400\n")
    write(root / "outer/inner/memory.max", "max\n")
    write(root / "outer/inner/memory.current", "100\n")
    assert _left_in_group(root, membership) == 900
    write(root / "outer/inner/memory.max", "300\n")
    assert _left_in_group(root, membership) == 200


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    membership = write(tmp_path / "cgroup", "5:cpu:/\n4:memory:/box\n")
    write(tmp_path / "fs/memory/memory.limit_in_bytes", f"{2**63 - 4096}\n")
    write(tmp_path / "fs/memory/memory.usage_in_bytes", "1\n")
    assert _left_in_group(tmp_path / "fs", membership) is None
    write(tmp_path / "fs/memory/box/memory.limit_in_bytes", "1000\n")
    write(tmp_path / "fs/memory/box/memory.usage_in_bytes", "400\n")
    assert _left_in_group(tmp_path / "fs", membership) == 600


def test_without_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert _left_in_group(tmp_path, write(tmp_path / "cgroup", "0::/\n")) is None
    assert _left_in_group(tmp_path, tmp_path / "none") is None


def test_this_machine_has_what_the_system_says() -> None:
    found = free_memory()
    if sys.platform.startswith("linux"):
        assert found is not None
        assert 0 < found <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_unknown_systems_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert free_memory() is None

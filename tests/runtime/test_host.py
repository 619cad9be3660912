"""Cores and memory, from files as Linux writes them."""

from __future__ import annotations

import os
import platform
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dream_edge_runtime import host
from dream_edge_runtime.host import default_threads, describe_machine, free_memory, peak_memory, resident_memory

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def no_number_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file of a made-up machine, which has no others: "cpu/…", "fs/…" (control groups), "cgroup", "meminfo"."""
    for constant, name in (
        ("_PROCESSORS", "cpu"),
        ("_GROUPS", "fs"),
        ("_MEMBERSHIP", "cgroup"),
        ("_MEMORY", "meminfo"),
    ):
        monkeypatch.setattr(host, constant, tmp_path / name)

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return write


def place_cores(write: Write, siblings: list[str], capacities: list[int] | None = None) -> None:
    for number, each in enumerate(siblings):
        write(f"cpu/cpu{number}/topology/thread_siblings_list", f"{each}\n")
    for number, capacity in enumerate(capacities or []):
        write(f"cpu/cpu{number}/cpu_capacity", f"{capacity}\n")


def alone(count: int) -> list[str]:
    """Siblings of cores without hyper-threads."""
    return [str(number) for number in range(count)]


# --- cores -----------------------------------------------------------------------------------------------------------


def test_hyper_threads_of_a_core_count_once(write: Write) -> None:
    place_cores(write, ["0,4", "1,5", "2,6", "3,7"] * 2)
    assert host._core_speeds(range(8)) == [1024] * 4
    assert len(host._core_speeds({0, 4})) == 1
    assert len(host._core_speeds({0, 1, 2})) == 3


def threads_on(affinity: set[int], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: affinity, raising=False)
    return default_threads()


def test_cores_of_several_clusters_count_each(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """An RK3588 has clusters of 4 slow, 2 and 2 fast cores, each of which counts its cores from 0."""
    place_cores(write, alone(8), [397] * 4 + [1024] * 4)
    for number, core in enumerate((0, 1, 2, 3, 0, 1, 0, 1)):
        write(f"cpu/cpu{number}/topology/core_id", f"{core}\n")
    assert host._core_speeds(range(8)) == [1024] * 4 + [397] * 4
    assert threads_on(set(range(8)), monkeypatch) == 8
    assert threads_on({0, 1, 4}, monkeypatch) == 3  # bound to some of them


@pytest.mark.usefixtures("write")
def test_processors_whose_place_is_unknown_count_each() -> None:
    assert host._core_speeds({0, 3}) == [1024, 1024]


def test_hybrid_processor_has_a_thread_for_each_core_of_both_kinds(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6 fast cores with two hyper-threads and 8 slow ones with none, as a Core i5-13600K."""
    pairs = [f"{first},{first + 1}" for first in range(0, 12, 2) for _ in range(2)]
    place_cores(write, [*pairs, *(str(number) for number in range(12, 20))], [1024] * 12 + [620] * 8)
    assert threads_on(set(range(20)), monkeypatch) == 14
    assert threads_on(set(range(12)), monkeypatch) == 6


@pytest.mark.parametrize(
    ("capacities", "expected"),
    [
        ([1024] * 8, 8),
        ([200] * 4 + [1024] * 4, 4),  # a slow core's piece would take longer than all of it on four fast ones
        ([100, 1024], 1),
        ([1024, 900, 900, 900, 400, 400, 400, 400], 8),
        ([120, 120, 1024, 1024, 700, 700], 4),
        ([0] * 4, 4),
    ],
)
def test_core_too_slow_to_help_gets_no_thread(
    write: Write, monkeypatch: pytest.MonkeyPatch, capacities: list[int], expected: int
) -> None:
    place_cores(write, alone(len(capacities)), capacities)
    assert threads_on(set(range(len(capacities))), monkeypatch) == expected


def test_number_of_threads_is_the_fastest_of_a_plain_simulation() -> None:
    rng = random.Random(0)
    for _ in range(40):
        kinds = sorted(rng.sample([1024, 800, 500, 300, 150, 90], rng.randint(1, 3)), reverse=True)
        speeds = [speed for speed in kinds for _ in range(rng.randint(1, 4))]
        ends = [count for count in range(1, len(speeds) + 1) if speeds[count - 1] not in speeds[count:]]
        times = {count: time_plainly(speeds[:count]) for count in ends}
        assert times[host._count_useful(speeds)] <= min(times.values()) * 1.03, speeds


def time_plainly(speeds: list[int], step: float = 0.002) -> float:
    """Until 4 pieces for each core are done, where a core that is free takes the next, the fastest first."""
    left, size = 4 * len(speeds), 1024 / (4 * len(speeds))
    doing, now = [0.0] * len(speeds), 0.0
    while left or any(each > 0 for each in doing):
        for index, speed in enumerate(speeds):
            if doing[index] <= 0 and left:
                left, doing[index] = left - 1, doing[index] + size
            doing[index] -= speed * step
        now += step
    return now


@pytest.mark.parametrize(("text", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)])
def test_limit_of_processor_time_is_rounded_up(write: Write, text: str, expected: int) -> None:
    write("cgroup", "0::/box\n")
    write("fs/box/cpu.max", f"{text}\n")
    assert host._processor_limit() == expected


def test_tightest_group_of_processor_time_counts(write: Write) -> None:
    write("cgroup", "0::/outer/inner\n")
    write("fs/outer/inner/cpu.max", "max 100000\n")
    assert host._processor_limit() is None
    write("fs/outer/cpu.max", "300000 100000\n")
    assert host._processor_limit() == 3
    write("fs/outer/inner/cpu.max", "100000 100000\n")
    assert host._processor_limit() == 1


def test_processor_time_of_groups_of_the_first_version(write: Write) -> None:
    write("cgroup", "4:memory:/box\n2:cpu,cpuacct:/box\n")
    write("fs/cpu/box/cpu.cfs_quota_us", "-1\n")
    write("fs/cpu/box/cpu.cfs_period_us", "100000\n")
    assert host._processor_limit() is None
    write("fs/cpu/box/cpu.cfs_quota_us", "400000\n")
    assert host._processor_limit() == 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says")
def test_affinity_and_limit_both_hold(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    place_cores(write, alone(64))
    write("cgroup", "0::/\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert default_threads() == 8
    write("fs/cpu.max", "200000 100000\n")
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


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what Linux says")
def test_available_is_the_kernels_estimate(write: Write) -> None:
    assert free_memory() is None
    write("meminfo", "MemTotal: 16 kB\nMemFree: 1 kB\nMemAvailable:   12345 kB\n")
    assert free_memory() == 12345 * 1024
    write("cgroup", "0::/box\n")
    write("fs/box/memory.max", "3000\n")
    write("fs/box/memory.current", "2500\n")
    assert free_memory() == 500


def test_tightest_group_counts_and_file_cache_can_be_dropped(write: Write) -> None:
    write("cgroup", "0::/outer/inner\n")
    write("fs/outer/memory.max", "3000\n")
    write("fs/outer/memory.current", "2500\n")
    write("fs/outer/memory.stat", "anon 5\ninactive_file 400\n")
    write("fs/outer/inner/memory.max", "max\n")
    write("fs/outer/inner/memory.current", "100\n")
    assert host._left_in_groups() == 900
    write("fs/outer/inner/memory.max", "300\n")
    assert host._left_in_groups() == 200


def test_memory_of_groups_of_the_first_version(write: Write) -> None:
    write("cgroup", "5:cpu:/\n4:memory:/box\n")
    write("fs/memory/memory.limit_in_bytes", f"{2**63 - 4096}\n")
    write("fs/memory/memory.usage_in_bytes", "1\n")
    assert host._left_in_groups() is None
    write("fs/memory/box/memory.limit_in_bytes", "1000\n")
    write("fs/memory/box/memory.usage_in_bytes", "400\n")
    assert host._left_in_groups() == 600
    write("fs/memory/box/memory.stat", "inactive_file 10\ntotal_inactive_file 50\n")
    assert host._left_in_groups() == 650


def test_without_groups_nothing_is_limited(write: Write) -> None:
    assert host._left_in_groups() is None
    write("cgroup", "0::/\n")
    assert host._left_in_groups() is None


def test_this_machine_has_what_the_system_says() -> None:
    found = free_memory()
    if sys.platform.startswith("linux"):
        assert found is not None
        assert 0 < found <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_unknown_systems_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert free_memory() is None


def test_process_holds_less_than_its_peak() -> None:
    peak, now = peak_memory(), resident_memory()
    assert peak is None or now is None or 0 < now <= peak + (1 << 20)


def test_machine_is_described_in_one_line() -> None:
    assert f"{os.cpu_count()} CPUs" in describe_machine()
    assert "\n" not in describe_machine()


def test_processor_without_a_name_is_described_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_read", lambda _: "CPU implementer : 0x41\nCPU part : 0xd08\n")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert describe_machine().startswith("aarch64, ")

"""How many threads a pass gets by default: one for each physical core that this process may use.

Left to itself, ONNX Runtime counts the cores of the machine. A process that is bound to some of them (taskset, a
container, a batch system), or may use so much processor time only (a container's limit), would start more threads than
can run, which then wait for each other within every operator.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_PROCESSORS = Path("/sys/devices/system/cpu")


def default_threads() -> int:
    """Physical cores within this process's affinity and its control groups' limits of processor time; at least one.

    `OMP_NUM_THREADS`, by which batch systems and PyTorch's users set it, comes before them.
    0 where the system is not asked (other than Linux): ONNX Runtime's own count.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    if sys.platform != "linux":
        return 0
    cores = _physical(os.sched_getaffinity(0), _PROCESSORS)
    limit = _limit(_GROUPS, _MEMBERSHIP)
    return cores if limit is None else max(1, min(cores, limit))


def _physical(logical: Iterable[int], root: Path) -> int:
    """Cores behind these logical processors; two that share a core (hyper-threads) count once."""
    cores = set()
    for number in logical:
        topology = root / f"cpu{number}" / "topology"
        package, core = _read(topology / "physical_package_id"), _read(topology / "core_id")
        cores.add((package, core) if core else number)
    return len(cores)


def _limit(root: Path, membership: Path) -> int | None:
    """Processors' worth of time that the tightest control group grants, rounded up; None without a limit."""
    granted = []
    for line in _read(membership).splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            base = root
        elif "cpu" in controllers.split(","):
            base = root / "cpu"
        else:
            continue
        group = base / place.lstrip("/")
        for directory in (group, *group.parents):  # a parent's limit holds as well
            # version 2, in one file: quota and period in microseconds; version 1, in two
            both = _read(directory / "cpu.max").split() or [
                _read(directory / "cpu.cfs_quota_us").strip(),
                _read(directory / "cpu.cfs_period_us").strip(),
            ]
            if len(both) == 2 and all(each.isdigit() and int(each) for each in both):
                granted.append(math.ceil(int(both[0]) / int(both[1])))
            if directory == base:
                break
    return min(granted, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

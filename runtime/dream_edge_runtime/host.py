"""What this machine has, and what affinity, containers and other programs leave of it: cores, memory, a GPU's driver.

Left to itself, ONNX Runtime counts the cores of the machine. A process that is bound to some of them (taskset, a
container, a batch system), or may use so much processor time only (a container's limit), would start more threads than
can run, which then wait for each other within every operator.
"""

from __future__ import annotations

import ctypes
import heapq
import math
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import NotWritable

_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_PROCESSORS = Path("/sys/devices/system/cpu")
_MEMORY = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")
_TASKS = 4  # TaskGranularityFactor: into how many pieces for each thread ONNX Runtime cuts a product on unequal cores
_UNLIMITED = 1 << 60  # version 1 of control groups writes a huge number for "no limit"


def installed_version() -> str:
    """The version of dream-edge; "0+uninstalled" where it runs from its source."""
    from importlib import metadata

    try:
        return metadata.version("dream-edge")
    except metadata.PackageNotFoundError:
        return "0+uninstalled"


def expand_home(path: str) -> Path:
    """`path` with its ~ as the user's home directory. Raises NotWritable where there is none, as in some containers."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        remedy = "Set HOME, or XDG_CACHE_HOME, to a directory that can be written."
        raise NotWritable(Path(path), "this user has no home directory", remedy) from None


# --- cores -----------------------------------------------------------------------------------------------------------


def default_threads() -> int:
    """Physical cores within this process's affinity and its control groups' limits of processor time; at least one.

    Cores that are too slow to help the others are left out.

    `OMP_NUM_THREADS`, by which batch systems and PyTorch's users set it, comes before them.
    0 where the system is not asked (other than Linux): ONNX Runtime's own count.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    if sys.platform != "linux":
        return 0
    cores, limit = _count_useful(_core_speeds(os.sched_getaffinity(0))), _processor_limit()
    return cores if limit is None else max(1, min(cores, limit))


def _core_speeds(logical: Iterable[int]) -> list[int]:
    """Of each physical core among these logical processors, fastest first; hyper-threads of one core count once.

    1024 is the machine's fastest core, and every core where the system sees no difference.
    """
    speeds = {}
    for number in logical:
        path = _PROCESSORS / f"cpu{number}"
        # not core_id, which begins again in each cluster of an ARM processor
        core = _read(path / "topology" / "thread_siblings_list").strip() or str(number)
        capacity = _read(path / "cpu_capacity").strip()
        speeds[core] = int(capacity) if capacity.isdigit() and int(capacity) else 1024
    return sorted(speeds.values(), reverse=True)


def _count_useful(speeds: Sequence[int]) -> int:
    """How many of the fastest cores finish a product soonest, all of one speed or none.

    On unequal cores ONNX Runtime cuts it into pieces of one size, which each core takes as it gets free. Slow cores
    help, unless the others wait for their last pieces longer than they would have computed without them.
    """

    def finish(count: int) -> float:
        ends = [(0.0, 1 / (_TASKS * count * speed)) for speed in speeds[:count]]  # when each is free; a piece's time
        for _ in range(_TASKS * count):
            free, piece = heapq.heappop(ends)
            heapq.heappush(ends, (free + piece, piece))
        return max(free for free, _ in ends)

    return min((count for count, speed in enumerate(speeds, 1) if speed not in speeds[count:]), key=finish)


def _processor_limit() -> int | None:
    """Processors' worth of time that the tightest control group grants, rounded up; None without a limit."""
    granted = []
    for directory in _control_groups("cpu"):
        # version 2, in one file: quota and period in microseconds; version 1, in two
        both = _read(directory / "cpu.max").split() or [
            _read(directory / "cpu.cfs_quota_us").strip(),
            _read(directory / "cpu.cfs_period_us").strip(),
        ]
        if len(both) == 2 and all(each.isdigit() and int(each) for each in both):
            granted.append(math.ceil(int(both[0]) / int(both[1])))
    return min(granted, default=None)


# --- memory ----------------------------------------------------------------------------------------------------------


def free_memory() -> int | None:
    """Bytes that can be had without swapping; None where the platform does not say (then nothing is checked)."""
    if sys.platform == "win32":
        return _free_on_windows()
    if not sys.platform.startswith("linux"):
        return None  # macOS has no such figure: it compresses and purges as it needs to
    amounts = (_read_kilobytes(_MEMORY, "MemAvailable"), _left_in_groups())
    return min((amount for amount in amounts if amount is not None), default=None)


def resident_memory() -> int | None:
    """Bytes this process holds now, mapped files included; None where the platform does not say."""
    return _read_kilobytes(_STATUS, "VmRSS")


def peak_memory() -> int | None:
    """The most bytes of memory this process has held; None where the platform does not say."""
    if _STATUS.exists():  # not getrusage: Linux lets a process inherit its parent's peak
        return _read_kilobytes(_STATUS, "VmHWM")
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _left_in_groups() -> int | None:
    """What the tightest control group leaves: its limit, less what it uses and cannot drop (the file cache it can)."""
    left = []
    for directory in _control_groups("memory"):
        # names of version 2, else of version 1
        limit = (_read(directory / "memory.max") or _read(directory / "memory.limit_in_bytes")).strip()
        used = (_read(directory / "memory.current") or _read(directory / "memory.usage_in_bytes")).strip()
        if limit.isdigit() and used.isdigit() and int(limit) < _UNLIMITED:
            lines = (line.split() for line in _read(directory / "memory.stat").splitlines())
            statistics = {fields[0]: int(fields[1]) for fields in lines if len(fields) == 2}
            dropped = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
            left.append(max(0, int(limit) - int(used) + dropped))
    return min(left, default=None)


def _free_on_windows() -> int | None:
    class Status(ctypes.Structure):
        """MEMORYSTATUSEX."""

        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "available", "total_page", "available_page")),
            *((name, ctypes.c_ulonglong) for name in ("total_virtual", "available_virtual", "extended")),
        ]

    status = Status(length=ctypes.sizeof(Status))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - not there for type checkers of other systems
    return int(status.available) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None


# --- a GPU -----------------------------------------------------------------------------------------------------------


def open_nvidia_driver() -> Any | None:
    """The library of NVIDIA's driver (its CUDA driver API); None without one."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def free_gpu_memory() -> int | None:
    """Bytes that the first GPU has left for this process, CUDA's own needs already taken; None where it does not say.

    Asked of the driver inside the context that ONNX Runtime is going to use, which also counts what others hold.
    """
    driver = open_nvidia_driver()
    if driver is None:
        return None
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return None
    try:
        if driver.cuCtxPushCurrent_v2(context):
            return None
        failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
        return None if failed else free.value
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)


# --- in words, and from files ----------------------------------------------------------------------------------------


def describe_machine() -> str:
    """Processor, number of CPUs, operating system and load over the last minute, in one line."""
    names = [line.split(":")[1].strip() for line in _read(Path("/proc/cpuinfo")).splitlines() if "model name" in line]
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    processor = names[0] if names else platform.processor() or platform.machine()  # ARM's has no name
    return f"{processor}, {os.cpu_count()} CPUs, {platform.system()}, load {load}"


def _control_groups(controller: str) -> Iterator[Path]:
    """The directories whose limits hold for this process: its own group of `controller` and the groups around it."""
    for line in _read(_MEMBERSHIP).splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _GROUPS / controller if controllers else _GROUPS  # version 2 has one tree for all controllers
        group = root / place.lstrip("/")
        for directory in (group, *group.parents):
            yield directory
            if directory == root:
                break


def _read_kilobytes(path: Path, name: str) -> int | None:
    """A line such as "MemAvailable:  12345 kB", in bytes."""
    for line in _read(path).splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""

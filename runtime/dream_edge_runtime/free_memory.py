"""How much memory a program may still take, as the operating system and a container's limits see it."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_UNLIMITED = 1 << 60  # version 1 of control groups writes a huge number for "no limit"


def free_memory() -> int | None:
    """Bytes that can be had without swapping; None where the platform does not say (then nothing is checked)."""
    if sys.platform == "win32":
        return _windows()
    if not sys.platform.startswith("linux"):
        return None  # macOS has no such figure: it compresses and purges as it needs to
    amounts = (_available(Path("/proc/meminfo")), _left_in_group(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")))
    return min((amount for amount in amounts if amount is not None), default=None)


def _available(meminfo: Path) -> int | None:
    for line in _read(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _left_in_group(root: Path, membership: Path) -> int | None:
    """What the tightest control group leaves: its limit, less what it uses and cannot drop (the file cache it can)."""
    left = []
    for line in _read(membership).splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            names = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            names = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        base, limit_name, used_name, cache_name = names
        group = base / place.lstrip("/")
        for directory in (group, *group.parents):  # a parent's limit holds as well
            limit, used = _read(directory / limit_name).strip(), _read(directory / used_name).strip()
            if limit.isdigit() and used.isdigit() and int(limit) < _UNLIMITED:
                left.append(max(0, int(limit) - int(used) + _statistic(directory / "memory.stat", cache_name)))
            if directory == base:
                break
    return min(left, default=None)


def _statistic(path: Path, name: str) -> int:
    fields = dict(line.split() for line in _read(path).splitlines() if len(line.split()) == 2)
    return int(fields.get(name, 0))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _windows() -> int | None:
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

"""The machine and the process that measure: what a figure has to be read beside."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


def machine() -> str:
    """Processor, number of CPUs, operating system and load, in one line."""
    return f"{processor()}, {os.cpu_count()} CPUs, {platform.system()}, load {load()}"


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def load() -> str:
    """How many processes wanted a CPU over the last minute."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def resident_memory() -> int | None:
    """Bytes this process holds now, mapped files included; None where the platform does not say."""
    return _status("VmRSS")


def peak_memory() -> int | None:
    """The most bytes of memory this process has held; None where the platform does not say."""
    if Path("/proc/self/status").exists():  # not getrusage: Linux lets a process inherit its parent's peak
        return _status("VmHWM")
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(name: str) -> int | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines[name].split()[0]) * 1024 if name in lines else None

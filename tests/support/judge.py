"""Loads the artifacts it is told of, one a line, and says how that ended. ONNX Runtime is out of reach here."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import NoReturn

import dream_edge
from dream_edge_runtime.inference import onnx_network as session


def unreachable() -> NoReturn:
    raise AssertionError("a bad artifact reached ONNX Runtime")


def peak_megabytes() -> int:
    """Of this process. Linux counts the parent's into ru_maxrss, so its own table is read there."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)
    return (
        next(int(line.split()[1]) for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM")) >> 10
    )


def judge(path: Path) -> dict[str, object]:
    start, cpu = time.monotonic(), time.process_time()
    error: BaseException | None = None
    try:
        dream_edge.load(path, verify=path.name.startswith("verify"))
    except BaseException as caught:
        error = caught
    return {
        "typed": isinstance(error, dream_edge.DreamEdgeError),
        "kind": type(error).__name__,
        "message": str(error),
        "seconds": time.process_time() - cpu,  # other processes are not its fault
        "waited": time.monotonic() - start,
        "peak": peak_megabytes(),
    }


if __name__ == "__main__":
    vars(session)["import_onnxruntime"] = unreachable
    for line in sys.stdin:
        sys.stdout.write(json.dumps(judge(Path(line.rstrip("\n")))) + "\n")
        sys.stdout.flush()

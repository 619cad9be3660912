"""Loads the artifacts it is told of, one a line, and says how that ended. ONNX Runtime is out of reach here."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import NoReturn

import dream_edge
from dream_edge_runtime.host import peak_memory
from dream_edge_runtime.inference import onnx_network as session


def unreachable() -> NoReturn:
    raise AssertionError("a bad artifact reached ONNX Runtime")


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
        "peak": (peak_memory() or 0) >> 20,  # megabytes; Windows does not say
    }


if __name__ == "__main__":
    vars(session)["import_onnxruntime"] = unreachable
    for line in sys.stdin:
        sys.stdout.write(json.dumps(judge(Path(line.rstrip("\n")))) + "\n")
        sys.stdout.flush()

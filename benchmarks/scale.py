"""What an artifact costs on this machine: loading, memory, and full passes against the peak of its matrix products.

    python benchmarks/scale.py ARTIFACT [--tokens 64 256 1024] [--repeats 5] [--json]

Each load is a process of its own. Cold: the files are dropped from the page cache first, where the system can do that.
The peak is that of one large product in ONNX Runtime, measured in the same run: integers (MatMulIntegerToFloat) for
int8, fp32 (MatMul) for all else; a share above 1 means a kernel faster than that product.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dream_edge
from dream_edge.benchmark.timing import SIZE, gemm_peak, operations, time_pass
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.memory import estimate_memory
from dream_edge_runtime.format.tensors import LM_HEAD
from dream_edge_runtime.host import describe_machine, peak_memory, resident_memory
from dream_edge_runtime.inference.onnx_network import OnnxNetwork


def measure_load(artifact: Path, tokens: list[int], repeats: int, threads: int | None) -> Any:
    """In this process: seconds to load, memory then, at its peak and after passes, and the median of each pass."""
    opened = Artifact.open(artifact)
    start = time.perf_counter()
    network = OnnxNetwork(opened, threads=threads, memory_check=False)
    found: dict[str, Any] = {
        "seconds": time.perf_counter() - start,
        "resident": resident_memory(),
        "peak": peak_memory(),
    }
    for count in tokens:
        found[f"pass {count}"] = time_pass(network, count, repeats)
    return found | {"running": peak_memory()}


def in_child(*arguments: str) -> Any:
    command = [sys.executable, __file__, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def drop_from_page_cache(directory: Path) -> bool:
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    return True


def measure(artifact: Path, tokens: list[int], repeats: int, threads: int | None, peak: int) -> Any:
    manifest = Artifact.open(artifact).manifest
    config, formats = manifest.config, manifest.recipe.targets["cpu"]
    common = ["--repeats", str(repeats), *(["--threads", str(threads)] if threads else []), "--child"]
    cold = drop_from_page_cache(artifact)
    loads = {"cold" if cold else "first": in_child(str(artifact), *common)}
    loads["warm"] = in_child(str(artifact), *common, "--tokens", *map(str, tokens))
    kind = "int8" if formats.of(LM_HEAD).kind == "row" else "fp32"
    speed = gemm_peak(kind, size=peak, threads=threads)
    expected = estimate_memory(config, formats)
    passes = {
        count: {
            "milliseconds": 1000 * loads["warm"][f"pass {count}"],
            "share_of_peak": operations(config, count, count) / loads["warm"][f"pass {count}"] / speed,
        }
        for count in tokens
    }
    return {
        "artifact": str(artifact),
        "scheme": manifest.recipe.scheme,
        "loads": loads,
        "passes": passes,
        "peak": {"kind": kind, "operations_per_second": speed},
        "expected": {"loaded": expected.weights, "loading": expected.weights + expected.loading},
        "machine": describe_machine(),
    }


def show(found: Any) -> None:
    def gigabytes(count: int | None) -> str:
        return "–" if count is None else f"{count / 1e9:.2f}"

    print(f"{found['artifact']} ({found['scheme']}); {found['machine']}\n")
    print("| load | s | GB loaded | GB peak | GB peak after passes |\n|---|---|---|---|---|")
    for name, each in found["loads"].items():
        sizes = " | ".join(gigabytes(each[key]) for key in ("resident", "peak", "running"))
        print(f"| {name} | {each['seconds']:.2f} | {sizes} |")
    expected = found["expected"]
    print(f"\nexpected: {gigabytes(expected['loaded'])} loaded, {gigabytes(expected['loading'])} peak\n")
    print("| tokens | ms a pass | share of peak |\n|---|---|---|")
    for count, each in found["passes"].items():
        print(f"| {count} | {each['milliseconds']:.1f} | {each['share_of_peak']:.0%} |")
    peak = found["peak"]
    print(f"\npeak: {peak['operations_per_second'] / 1e9:.0f} Gop/s, {peak['kind']} matrix product")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", help='directory of an artifact, or "tiny"')
    parser.add_argument("--tokens", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=5, help="passes of which the median counts")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--peak-size", type=int, default=SIZE, help="rows and columns of the product")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    path = dream_edge.resolve_artifact(options.artifact)
    if options.child:
        found = measure_load(path, options.tokens or [], options.repeats, options.threads)
        print(json.dumps(found))
        return
    tokens = options.tokens or [64, 256, 1024]
    found = measure(path, tokens, options.repeats, options.threads, options.peak_size)
    print(json.dumps(found)) if options.json else show(found)


if __name__ == "__main__":
    main()

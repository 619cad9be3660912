"""What an export takes: seconds, memory, disk, bytes; beside llama.cpp's two steps on the same checkpoint, if asked.

    python benchmarks/export_scale.py CHECKPOINT --scheme int4
    python benchmarks/export_scale.py CHECKPOINT --scheme int4 --llama-cpp SOURCES --llama-quantize PROGRAM

Every step runs in a process of its own. Memory is the most that was resident, mapped pages included, as the operating
system counts it; disk is the most that the step's files took beside the checkpoint, looked at ten times a second.
llama.cpp's steps are convert_hf_to_gguf.py (to bf16) and llama-quantize (to Q4_K_M), as its manual has them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter


@dataclass(frozen=True)
class Cost:
    """Of one step or of several in turn."""

    name: str
    seconds: float
    peak_memory: int
    peak_disk: int
    result: int
    """Bytes of what it made."""

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        return (
            f"{self.name:<28} {minutes:>3}:{seconds:02} min   memory {self.peak_memory / 1e9:5.2f} GB   "
            f"disk {self.peak_disk / 1e9:6.2f} GB   result {self.result / 1e9:6.2f} GB"
        )


def measure(name: str, command: Sequence[str], directory: Path, result: Path) -> Cost:
    """Run `command`, which writes into `directory`."""
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.1):
            peak = max(peak, stored(directory))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = perf_counter()
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = perf_counter() - start
    finally:
        ended.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{name} failed: {process.returncode}")
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Cost(name, seconds, memory, max(peak, stored(directory)), stored(result))


def stored(path: Path) -> int:
    """Bytes of a file, or of all files under a directory; those that vanish meanwhile count for nothing."""
    total = 0
    for file in [path] if path.is_file() else path.rglob("*"):
        try:
            status = file.lstat()
        except FileNotFoundError:
            continue
        total += 0 if file.is_dir() else status.st_size
    return total


def ours(checkpoint: Path, scheme: str, directory: Path) -> Cost:
    out = directory / "artifact"
    command = [sys.executable, "-m", "dream_edge", "export", str(checkpoint), str(out), "--scheme", scheme]
    return measure(f"dream-edge {scheme}", command, directory, out)


def theirs(checkpoint: Path, sources: Path, quantize: Path, directory: Path) -> list[Cost]:
    whole, small = directory / "bf16.gguf", directory / "q4_k_m.gguf"
    convert = [sys.executable, str(sources / "convert_hf_to_gguf.py"), str(checkpoint)]
    convert += ["--outtype", "bf16", "--outfile", str(whole)]
    steps = [
        measure("llama.cpp convert", convert, directory, whole),
        measure("llama.cpp quantize Q4_K_M", [str(quantize), str(whole), str(small), "Q4_K_M"], directory, small),
    ]
    both = Cost(
        "llama.cpp both",
        sum(step.seconds for step in steps),
        max(step.peak_memory for step in steps),
        max(step.peak_disk for step in steps),
        steps[-1].result,
    )
    return [*steps, both]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--scheme", default="int4")
    parser.add_argument("--directory", type=Path, help="where to write; emptied again (default: the system's own)")
    parser.add_argument("--llama-cpp", type=Path, metavar="SOURCES", help="llama.cpp's sources, with their converter")
    parser.add_argument("--llama-quantize", type=Path, metavar="PROGRAM", help="the program of that name, built")
    given = parser.parse_args()
    if (given.llama_cpp is None) != (given.llama_quantize is None):
        parser.error("--llama-cpp and --llama-quantize belong together")

    with TemporaryDirectory(dir=given.directory) as directory:
        mine = ours(given.checkpoint, given.scheme, Path(directory))
    print(mine, flush=True)
    if given.llama_cpp:
        with TemporaryDirectory(dir=given.directory) as directory:
            *_, both = costs = theirs(given.checkpoint, given.llama_cpp, given.llama_quantize, Path(directory))
        for cost in costs:
            print(cost)
        print(
            f"dream-edge takes {mine.seconds / both.seconds:.2f} of the time, {mine.peak_disk / both.peak_disk:.2f} of "
            f"the disk and {mine.peak_memory / both.peak_memory:.2f} of the memory."
        )


if __name__ == "__main__":
    main()

"""The frozen desktop editor: how large it is, and how long until its window, its model and its first text are there.

pyinstaller examples/desktop/dream-editor.spec
python benchmarks/desktop.py dist/dream-editor
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

EVENTS = ("window shown", "model loaded", "text written")
TEXT = "The old man[[1]] because he[[1]] hungry."


def sizes(directory: Path) -> Counter[str]:
    """Bytes of each part; links count nothing."""
    parts: Counter[str] = Counter()
    for file in directory.rglob("*"):
        if file.is_file() and not file.is_symlink():
            place = file.relative_to(directory / "_internal") if "_internal" in file.parts else Path(file.name)
            first = place.parts[0]
            parts["libraries of the system" if ".so" in first and "python" not in first else first] += (
                file.stat().st_size
            )
    return parts


def forget(directory: Path) -> None:
    """Ask the kernel to drop the files from its cache, so that the next start reads the disk."""
    for file in directory.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def start(directory: Path, text: Path) -> dict[str, float]:
    """Seconds from the start of the process to each of `EVENTS`."""
    seen: dict[str, float] = {}
    began = time.perf_counter()
    command = [str(directory / directory.name), "--verbose", "--fill", str(text)]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip() in EVENTS:
                seen[line.strip()] = time.perf_counter() - began
            if EVENTS[-1] in seen:
                process.kill()
                break
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--starts", type=int, default=7)
    arguments = parser.parse_args()
    directory = arguments.directory.resolve()
    parts = sizes(directory)
    print(f"{'size':24}{parts.total() / 1e6:8.1f} MB")
    for name, size in parts.most_common(8):
        print(f"  {name:22}{size / 1e6:8.1f} MB")
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "letter.txt"
        text.write_text(TEXT, "utf-8")
        start(directory, text)
        for kind in ("cold", "warm"):
            measured = []
            for _ in range(arguments.starts):
                if kind == "cold":
                    forget(directory)
                measured.append(start(directory, text))
            for event in EVENTS:
                seconds = [each[event] for each in measured]
                print(
                    f"{kind}, {event:18}{statistics.median(seconds):6.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})"
                )


if __name__ == "__main__":
    main()

"""What a batch's engine costs beside the model: the tiny Dream's requests, which take milliseconds, with each engine.

    python benchmarks/batch_engines.py --requests 400 --workers 1,2

Every worker has one thread. Start-up is the time to the first answer; the rate is that of the answers after it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import dream_edge
from dream_edge.batches import Engine, LocalEngine, RayEngine, Source, run_batch
from dream_edge_runtime.progress import Progress


def write_requests(path: Path, count: int) -> Path:
    words = ("dog", "cat", "old man", "boys", "garden", "lamp", "tree")
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            body = {"prompt": f"The {words[number % len(words)]}", "max_tokens": 16, "steps": 16, "seed": number}
            file.write(json.dumps({"custom_id": str(number), "url": "/v1/completions", "body": body}) + "\n")
    return path


def measure(engine: Engine, source: Path, out: Path) -> tuple[float, float]:
    """Seconds to the first answer, and seconds for each of those after it."""
    times: list[float] = []

    def progress(_: Progress) -> None:
        times.append(time.perf_counter())

    run_batch(engine, source, out, progress=progress)
    start, first, *_, last = times
    return first - start, (last - first) / (len(times) - 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400, metavar="N")
    parser.add_argument("--workers", default="1,2", metavar="N,…", help="of Ray, one run for each number")
    arguments = parser.parse_args()
    engines: dict[str, Engine] = {"local": LocalEngine(lambda: dream_edge.load("tiny", threads=1), "tiny")}
    for workers in map(int, arguments.workers.split(",")):
        source = Source(name="tiny")
        engines[f"ray, {workers} workers"] = RayEngine(source=source, served="tiny", workers=workers, threads=1)
    engines["local again"] = engines["local"]
    print("| engine | first answer after | then for each |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        requests = write_requests(Path(place) / "in.jsonl", arguments.requests)
        for number, (name, engine) in enumerate(engines.items()):
            begin, each = measure(engine, requests, Path(place) / f"out{number}.jsonl")
            print(f"| {name} | {begin:.1f} s | {1000 * each:.1f} ms |", flush=True)


if __name__ == "__main__":
    main()

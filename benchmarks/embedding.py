"""What a program that embeds a model has to reckon with: its start, its window's thread, stopping, two texts, memory.

    python benchmarks/embedding.py ARTIFACT [--tokens 64] [--stops 5] [--threads N] [--json]

The window's thread is this program's main thread: it sleeps five milliseconds at a time, as an event loop waits, while
another generates, and counts how late it was woken. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import dream_edge
from dream_edge_runtime.host import describe_machine, resident_memory

NAP = 0.005
QUESTION = "What sound does the dog make?"


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def import_seconds(repeats: int = 5) -> float:
    """The median over fresh processes, which have the files in the page cache."""
    program = "import time; t = time.perf_counter(); import dream_edge; dream_edge.load; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", program]
    runs = [subprocess.run(command, capture_output=True, check=True) for _ in range(repeats + 1)]
    return statistics.median(float(run.stdout) for run in runs[1:])


def lateness(busy: Callable[[], object] | None, naps: int = 200) -> dict[str, float]:
    """Milliseconds by which this thread was woken too late while another thread was `busy` (None: nothing is)."""
    worker = threading.Thread(target=busy) if busy else None
    if worker:
        worker.start()
    late: list[float] = []
    while worker.is_alive() if worker else len(late) < naps:
        late.append(1000 * (seconds(lambda: time.sleep(NAP)) - NAP))
    return {"median": float(np.median(late)), "p99": float(np.quantile(late, 0.99)), "most": max(late)}


def stop_once(model: dream_edge.DreamModel, tokens: int, share: float) -> tuple[float, float]:
    """Seconds of a step, and from setting the event after `share` of a later one to the end of the worker's thread."""
    cancel = threading.Event()
    denoising = model.stream(QUESTION, max_new_tokens=tokens, steps=tokens, cancel=cancel)
    step = statistics.median(seconds(lambda: next(denoising)) for _ in range(2))
    with ThreadPoolExecutor(1) as pool:
        finishing = pool.submit(denoising.result)
        time.sleep(share * step)
        start = time.perf_counter()
        cancel.set()
        stopped = isinstance(finishing.exception(), dream_edge.Cancelled)
    if not stopped:
        raise SystemExit("The text was finished before it could be stopped: take more --tokens.")
    return step, time.perf_counter() - start


def at_once(text: Callable[[], object]) -> None:
    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(text) for _ in range(2)]:
            running.result()


def measure_model(model: dream_edge.DreamModel, tokens: int, stops: int) -> dict[str, Any]:
    def text() -> object:
        return model.generate(QUESTION, max_new_tokens=tokens, seed=0)

    def median(act: Callable[[], object]) -> float:
        return statistics.median(seconds(act) for _ in range(3))

    found: dict[str, Any] = {"first_text": seconds(text), "text": median(text)}
    found |= {"late_idle": lateness(None), "late_generating": lateness(text)}
    draws = random.Random(0)
    steps, delays = zip(*(stop_once(model, tokens, draws.uniform(0, 2)) for _ in range(stops)), strict=True)
    found["stop"] = {"step": statistics.median(steps), "median": statistics.median(delays), "most": max(delays)}
    return found | {"two_in_turn": median(lambda: [text(), text()]), "two_at_once": median(lambda: at_once(text))}


def measure(name: str, tokens: int, stops: int, threads: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {"artifact": name, "machine": describe_machine(), "import": import_seconds()}
    before = resident_memory()
    start = time.perf_counter()
    model = dream_edge.load(name, threads=threads)
    found |= {"load": time.perf_counter() - start, **measure_model(model, tokens, stops)}
    loaded = resident_memory()
    del model
    gc.collect()
    return found | {"memory": {"before": before, "loaded": loaded, "dropped": resident_memory()}}


def show(found: dict[str, Any]) -> None:
    def line(what: str, value: str) -> None:
        print(f"| {what} | {value} |")

    def megabytes(count: int | None) -> str:
        return "–" if count is None else f"{count / 1e6:,.0f} MB"

    print(f"{found['artifact']}; {found['machine']}\n\n| what | found |\n|---|---|")
    line("importing dream_edge", f"{found['import']:.2f} s")
    line("loading", f"{found['load']:.2f} s")
    line("the first text, the next ones", f"{found['first_text']:.2f} s, {found['text']:.2f} s")
    for key, what in (("late_idle", "nothing else runs"), ("late_generating", "another thread generates")):
        late = found[key]
        figures = f"{late['median']:.1f}, {late['p99']:.1f}, {late['most']:.1f} ms"
        line(f"a thread is woken late while {what}: median, 99 %, most", figures)
    stop = found["stop"]
    line("stopping: median, longest (a step)", f"{stop['median']:.2f} s, {stop['most']:.2f} s ({stop['step']:.2f} s)")
    line("two texts in turn, at once", f"{found['two_in_turn']:.2f} s, {found['two_at_once']:.2f} s")
    memory = found["memory"]
    line("memory before, loaded, dropped", ", ".join(map(megabytes, memory.values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", help='directory of an artifact, or "tiny"')
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each text")
    parser.add_argument("--stops", type=int, default=5, help="how many texts are stopped on their way")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.artifact, options.tokens, options.stops, options.threads)
    print(json.dumps(found)) if options.json else show(found)


if __name__ == "__main__":
    main()

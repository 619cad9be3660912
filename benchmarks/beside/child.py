"""One process that loads one model and times it: this package's or PyTorch's. Prints one JSON object."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from dream_edge.benchmark.timing import time_pass
from dream_edge_runtime.host import peak_memory


def artifact(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    import dream_edge

    start = time.perf_counter()
    model = dream_edge.load(path, device="cpu", threads=given.threads, as_int8=given.as_int8, memory_check=False)
    found: dict[str, Any] = {"load": time.perf_counter() - start}
    found["passes"] = {count: time_pass(model.network, count, given.passes) for count in given.canvas}
    if given.text:
        parts = {count: time_pass(model.network, given.text, given.passes, block=count) for count in given.parts}
        found["parts"] = parts | {given.text: time_pass(model.network, given.text, given.passes, rows=given.rows)}
    return found


def reference(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    import torch

    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.reference.model import Dream

    if given.threads:
        torch.set_num_threads(given.threads)
    start = time.perf_counter()
    checkpoint, dtype = Checkpoint.open(path), getattr(torch, given.dtype)
    with torch.device("meta"):
        network = Dream(checkpoint.config)
    # in the type asked for from the start: in fp32 first, 7B would take 30 GB
    network.load_state_dict({name: checkpoint.tensor(name).to(dtype) for name in checkpoint.names}, assign=True)
    network.eval().requires_grad_(False)
    found: dict[str, Any] = {"load": time.perf_counter() - start, "passes": {}}
    rng = np.random.default_rng(0)
    for canvas in given.canvas:
        ids, times = torch.from_numpy(rng.integers(0, network.config.vocab_size, (1, canvas))), []
        # the network rotates queries and keys in fp32: autocast takes them back to the type of the values
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=given.dtype == "bfloat16"):
            for _ in range(given.passes + 1):
                start = time.perf_counter()
                network(ids)
                times.append(time.perf_counter() - start)
        found["passes"][canvas] = statistics.median(times[1:])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="a checkpoint, in PyTorch")
    parser.add_argument("--as-int8", action="store_true", help="4-bit weights as 8-bit ones")
    parser.add_argument("--canvas", type=int, nargs="*", default=[], help="time full passes over so many tokens")
    parser.add_argument("--text", type=int, help="time the passes of a text of so many tokens, prompt included")
    parser.add_argument("--rows", type=int, help="that a pass over the whole text projects")
    parser.add_argument("--parts", type=int, nargs="*", default=[], help="tokens computed in its other passes")
    parser.add_argument("--passes", type=int, default=1, help="of each kind, of which the median counts")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    found = (reference if given.dtype else artifact)(given.model, given)
    print(json.dumps(found | {"memory": peak_memory() or 0}))


if __name__ == "__main__":
    main()

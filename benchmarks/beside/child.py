"""One process that loads one model and times it: this package's or PyTorch's. Prints one JSON object."""

from __future__ import annotations

import argparse
import itertools
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
    if given.canvas:
        found["passes"] = [time_pass(model.network, given.canvas, given.passes)]
    if given.cache:
        config = dream_edge.GenerationConfig(
            max_new_tokens=given.new,
            steps=given.new,
            algorithm="maskgit_plus",
            cache=given.cache,
            block_length=given.block if given.cache != "none" else None,
            seed=0,
        )
        ids = np.random.default_rng(0).integers(0, model.config.mask_token_id, given.prompt).tolist()
        start = time.perf_counter()
        denoising = model.stream(ids, config)
        # a step that reveals nothing needs no pass
        passes = sum(len(step.revealed) > 0 for step in itertools.islice(denoising, given.steps))
        found |= {"seconds": time.perf_counter() - start, "made": passes}
    return found


def reference(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    import torch

    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.reference.model import load_reference

    if given.threads:
        torch.set_num_threads(given.threads)
    start = time.perf_counter()
    network = load_reference(Checkpoint.open(path)).to(getattr(torch, given.dtype))
    found: dict[str, Any] = {"load": time.perf_counter() - start}
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, network.config.vocab_size, (1, given.canvas)))
    times = []
    # the reference rotates queries and keys in fp32: autocast takes them back to the type of the values
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=given.dtype == "bfloat16"):
        for _ in range(given.passes + 1):
            start = time.perf_counter()
            network(ids)
            times.append(time.perf_counter() - start)
    return found | {"passes": [statistics.median(times[1:])]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="a checkpoint, in PyTorch")
    parser.add_argument("--as-int8", action="store_true", help="4-bit weights as 8-bit ones")
    parser.add_argument("--canvas", type=int, help="time full passes over so many tokens")
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--cache", choices=["none", "dual"], help="generate a text")
    parser.add_argument("--block", type=int)
    parser.add_argument("--prompt", type=int)
    parser.add_argument("--new", type=int)
    parser.add_argument("--steps", type=int, help="stop after so many")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    found = (reference if given.dtype else artifact)(given.model, given)
    print(json.dumps(found | {"memory": peak_memory() or 0}))


if __name__ == "__main__":
    main()

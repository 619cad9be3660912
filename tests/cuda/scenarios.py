"""What is done on the stand-in for a card, in a process of its own: scenarios.py NAME ARTIFACT…; prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import OutOfMemory, TooLittleMemory
from dream_edge_runtime.inference import cuda
from dream_edge_runtime.inference.devices import cuda_problem
from dream_edge_runtime.inference.memory import CONTEXT, estimate_gpu_memory
from dream_edge_runtime.inference.network import KeyValues, Rows
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.model import DreamModel
from tools.cuda_standin.card import Card, launches_of, trial_work


def load(artifact: Artifact) -> tuple[OnnxNetwork, Card]:
    # results are zeros, which no self-check takes
    return OnnxNetwork(artifact, device="cuda", memory_check=False, self_check=False), Card()


def run(network: OnnxNetwork, active: int, rows: int = 32, past: KeyValues | None = None, cached: int = 0) -> Rows:
    ids, positions = np.zeros((1, active), np.int64), np.arange(active)[None]
    queries = active if network.config.causal_block else 1
    mask = np.ones((1, queries, cached + active), bool)
    return network.forward(ids, positions, mask, np.arange(rows), 0.0, past=past, keep=True)


def loading(artifact: Artifact) -> Any:
    """Bytes held, beside the estimate; where nodes are; what was tried."""
    card = Card()
    card.reset_peak()
    with card.logging() as log:
        network, _ = load(artifact)
    estimate = estimate_gpu_memory(artifact.manifest.config, artifact.manifest.recipe)
    nodes = network._session.get_provider_graph_assignment_info()
    left = [node.op_type for part in nodes if part.ep_name != cuda.PROVIDER for node in part.get_nodes()]
    placed = [node.op_type for part in nodes for node in part.get_nodes()]
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    found: dict[str, Any] = {
        "held": card.held,
        "peak": card.peak,
        "expected": estimate.weights - CONTEXT,
        "expected_peak": estimate.weights - CONTEXT + estimate.loading,
        "on_cpu": left,
        "copies_between_devices": [name for name in placed if "Memcpy" in name],
        "cudnn": "cudnn" in mapped,
        "trial_work": trial_work(log),
        "refused": [fields for fields in log if fields[-1] == "refused"],
    }
    full = run(network, 250)
    with card.logging() as log:
        run(network, 33, past=full.key_values, cached=250)
    launches = launches_of(log)
    found["launches"] = len(launches)
    found["refused"] += [fields for fields in log if fields[-1] == "refused"]
    found["attention"] = sorted({each.name for each in launches if "attention_kernel" in each.name})
    found["plain_attention"] = [each.name for each in launches if "Strided" in each.name or "oftmax" in each.name]
    found["copied_back"] = sorted(int(fields[2]) for fields in log if fields[:2] == ["copy", "DH"])
    return found


def passes(artifact: Artifact) -> Any:
    """The most that a pass takes, the first and later ones, beside the estimate."""
    found = []
    network, card = load(artifact)
    loaded = card.held
    for tokens, rows in ((128, 32), (256, 256), (500, 32), (1024, 32), (1023, 256), (1024, 1024), (2047, 32)):
        network._arena = cuda.Arena()  # so that it gives back what it took for others
        run(network, 8)
        card.reset_peak()
        for _ in range(3):
            kept = run(network, tokens, rows)
        estimate = estimate_gpu_memory(artifact.manifest.config, artifact.manifest.recipe, canvas=tokens, rows=rows)
        found.append((tokens, rows, card.peak - loaded, estimate.working))
        del kept
        network._arena = cuda.Arena()
        run(network, 8)
    return found


def conversation(artifact: Artifact) -> Any:
    """A conversation that grows to 1,874 tokens, then 50 generations of any length."""
    network, card = load(artifact)
    model, random = DreamModel(network, artifact.tokenizer()), np.random.default_rng(0)
    full = run(network, 250)
    with card.logging() as log:
        run(network, 33, past=full.key_values, cached=250)
    del full
    peaks, grown = {"launches": len(launches_of(log))}, [*range(128, 1874, 97), 1874]
    for kind, lengths in (("growing", grown), ("random", random.integers(80, 1874, 50).tolist())):
        for length in lengths:
            for cache in ("none", "dual"):
                model.generate(
                    [5] * (length - 64),
                    max_new_tokens=64,
                    steps=8,
                    algorithm="maskgit_plus",
                    cache=cache,
                    block_length=32,
                )
        peaks[kind] = card.peak
    return peaks


def full_memory(artifact: Artifact) -> Any:
    """Allocations fail in the midst of a conversation: once, twice, and for as long as the pass is tried."""
    network, card = load(artifact)
    model, outcomes = DreamModel(network, artifact.tokenizer()), []
    for turn, refusals in enumerate((0, 1, 0, 2, 0, 1000, 0)):
        card.refuse(refusals)
        with card.logging() as log:
            try:
                model.generate([5] * (200 * (turn + 1)), max_new_tokens=32, steps=4, algorithm="maskgit_plus")
                outcome = "text"
            except OutOfMemory:
                outcome = "out of memory"
        outcomes.append((refusals, [fields[0] for fields in log].count("full"), outcome))
        card.refuse(0)
    return outcomes


def small_cards(artifact: Artifact) -> Any:
    """On cards of many sizes: refused, or loaded and a pass of the checked size run."""
    card, outcomes = Card(), []
    weights = estimate_gpu_memory(artifact.manifest.config, artifact.manifest.recipe).weights
    for more in (0.0, 0.5e9, 0.9e9, 1.0e9, 1.1e9, 1.2e9, 1.3e9, 1.5e9):
        card.resize(int(weights + more))
        try:
            network = OnnxNetwork(artifact, device="cuda", self_check=False)
            run(network, 512, 256)
            outcomes.append("run")
            del network
        except (TooLittleMemory, OutOfMemory) as error:
            outcomes.append(type(error).__name__)
    return outcomes


def threads(artifact: Artifact) -> Any:
    """Six threads, each with passes of its own sizes."""
    network, card = load(artifact)

    def work(number: int) -> int:
        return sum(len(run(network, 8 + 37 * number + 5 * turn, 8).top_ids) for turn in range(10))

    with ThreadPoolExecutor(6) as pool:
        return [list(pool.map(work, range(6))), card.held]


def problem(_: Artifact) -> Any:
    """What this machine lacks for CUDA."""
    return cuda_problem()


SCENARIOS: dict[str, Callable[[Artifact], Any]] = {
    each.__name__: each for each in (loading, passes, conversation, full_memory, small_cards, threads, problem)
}


def main() -> None:
    name, *paths = sys.argv[1:]
    results = {Path(path).name: SCENARIOS[name](Artifact.open(Path(path))) for path in paths}
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()

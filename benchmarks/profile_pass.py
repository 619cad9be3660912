"""Where the milliseconds of a pass go, by part of the network, and what its products would take at this machine's peak.

    python benchmarks/profile_pass.py ARTIFACT [--passes 32+256 64 256 1024] [--rows 32] [--json]
    python benchmarks/profile_pass.py open-dcoder-0.5B Dream-v0-Instruct-7B --schemes int8 int4 [--layers 4]

The second form takes published models by name, as `benchmarks/scale.py` does: weights of noise, with `--layers` a
slice. 32+256 is a block of 32 tokens against 256 cached ones; `--rows` of the tokens are projected onto the vocabulary,
as in an answer. Times are the shortest of several passes, those of operators by ONNX Runtime's profiler, the whole
without it. With `--threads 1` the whole is processor time, which other programs do not lengthen.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

import dream_edge
from dream_edge.benchmark.timing import gemm_peak
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, matrix_shapes
from dream_edge_runtime.host import describe_machine
from dream_edge_runtime.inference.devices import import_onnxruntime
from dream_edge_runtime.inference.onnx_network import OnnxNetwork

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.scale import NAMES, make_noise

_PRODUCTS = "MatMulNBits|MatMulIntegerToFloat|MatMulBnb4|Gemm|FusedGemm|MatMul"
PARTS = {  # of an operator's name, which begins with its block
    "lm_head's product": rf"^lm_head/({_PRODUCTS})",
    "products": rf"^model\.layers.*/({_PRODUCTS})",
    "rounding activations": r"/(Reduce|Neg|Max|Div|Expand|QuantizeLinear|Shape|Unsqueeze)[^/]*$",
    "scaling rows, biases": r"(_proj|lm_head)/(Mul|Add)[^/]*$",
    "attention": r"self_attn/Attention",
    "rotation, heads apart": r"self_attn/",
    "norms, residuals": r"norm/|^SkipS|^SimplifiedL",
    "silu(gate) · up": r"mlp/",
    "embedding": r"^model\.embed",
}
REST, OUTSIDE = "reductions of logits, masks", "between operators, Python"

Run = Callable[[], None]


class ProfiledNetwork(OnnxNetwork):
    """Writes the times of its operators to a file in the working directory when `end` is called."""

    def _options(self, directory: str) -> Any:
        options = super()._options(directory)
        options.enable_profiling = bool(directory)  # not the check of products, which has its weights inside
        options.profile_file_prefix = "pass-profile"
        return options

    def end(self) -> list[dict[str, Any]]:
        path = Path(self._session.end_profiling())
        events: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
        path.unlink()
        return events


def prepare_pass(network: OnnxNetwork, active: int, cached: int, rows: int) -> Run:
    ids = np.random.default_rng(0).integers(0, network.config.vocab_size, (1, active + cached))
    positions, mask, past = np.arange(active + cached), np.ones((1, 1, active + cached), bool), None
    if cached:
        first = network.forward(
            ids[:, :cached], positions[None, :cached], mask[..., :cached], positions[:1], 0.0, None, keep=True
        )
        past = first.key_values
    asked = np.arange(min(rows, active))

    def run() -> None:
        network.forward(ids[:, cached:], positions[None, cached:], mask, asked, 0.0, None, past=past)

    run()
    return run


def time_runs(run: Run, repeats: int, threads: int | None) -> float:
    times, clock = [], process_time if threads == 1 else perf_counter
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


def sort_operators(events: list[dict[str, Any]], repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds by part, and by part and kind of operator, of the last `repeats` passes: the shortest of each node."""
    nodes: dict[str, list[float]] = {}
    kinds = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            nodes.setdefault(name, []).append(event["dur"] / 1e6)
            kinds[name] = event["args"]["op_name"]
    parts: defaultdict[str, float] = defaultdict(float)
    operators: defaultdict[str, float] = defaultdict(float)
    for name, times in nodes.items():
        part = next((part for part, pattern in PARTS.items() if re.search(pattern, name)), REST)
        if part == "rounding activations" and "_norm" in name.rpartition("/")[0]:
            part = "norms, residuals"
        if "/" not in name and part == "rounding activations":
            part = REST
        seconds = min(times[-repeats:])
        parts[part] += seconds
        operators[f"{part}: {kinds[name]}"] += seconds
    return parts, operators


def account(artifact: Path, name: str, given: argparse.Namespace) -> dict[str, Any]:
    active, cached = (int(count) for count in f"{name}+0".split("+")[:2])
    opened = Artifact.open(artifact)
    network = OnnxNetwork(opened, threads=given.threads, memory_check=False, self_check=False)
    whole = time_runs(prepare_pass(network, active, cached, given.rows), given.repeats, given.threads)
    del network
    profiled = ProfiledNetwork(opened, threads=given.threads, memory_check=False, self_check=False)
    time_runs(prepare_pass(profiled, active, cached, given.rows), given.repeats, given.threads)
    parts, operators = sort_operators(profiled.end(), given.repeats)
    parts[OUTSIDE] = whole - sum(parts.values())
    shapes = matrix_shapes(opened.manifest.config)
    head = 2 * min(given.rows, active) * shapes[LM_HEAD][0] * shapes[LM_HEAD][1]
    weights = sum(rows * columns for name, (rows, columns) in shapes.items() if name not in (EMBEDDING, LM_HEAD))
    kinds = {"lm_head's product": (LM_HEAD, head), "products": ("", 2 * active * weights)}
    formats = opened.manifest.recipe.targets["cpu"]
    bounds = {
        part: work / PEAKS["int8" if formats.of(matrix).kind == "row" else "fp32"]
        for part, (matrix, work) in kinds.items()
    }
    return {"seconds": whole, "parts": dict(parts), "operators": dict(operators), "at_peak": bounds}


PEAKS: dict[str, float] = {}
"""Operations a second of one large product, measured when the program begins."""


@contextmanager
def open_model(name: str, scheme: str, layers: int | None) -> Iterator[tuple[Path, float]]:
    if name in NAMES:
        with make_noise(name, scheme, layers) as found:
            yield found
    else:
        yield dream_edge.resolve_artifact(name), 1.0


def show(title: str, found: dict[str, dict[str, Any]], *, operators: bool) -> None:
    print(f"{title}; {describe_machine()}\n")
    print(f"| ms | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    print("| **a pass** | " + " | ".join(f"**{1000 * each['seconds']:.1f}**" for each in found.values()) + " |")
    for part in (*PARTS, REST, OUTSIDE):
        cells = []
        for each in found.values():
            seconds = each["parts"].get(part, 0.0)
            bound = f" (peak: {1000 * each['at_peak'][part]:.1f})" if part in each["at_peak"] else ""
            cells.append(f"{1000 * seconds:.1f}{bound}")
        print(f"| {part} | {' | '.join(cells)} |")
    for name, each in found.items() if operators else ():
        print(f"\n{name}:")
        for operator, seconds in sorted(each["operators"].items(), key=lambda item: -item[1])[:25]:
            print(f"  {1000 * seconds:8.2f}  {operator}")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--schemes", nargs="+", default=["int8"], choices=["int8", "int4"], help="of published models")
    parser.add_argument("--layers", type=int, help="of published models, instead of all")
    parser.add_argument("--passes", nargs="+", default=["32+256", "64", "256", "1024"], metavar="ACTIVE[+CACHED]")
    parser.add_argument("--rows", type=int, default=32, help="that are projected onto the vocabulary")
    parser.add_argument("--repeats", type=int, default=5, help="passes of which the shortest counts")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--operators", action="store_true", help="list the operators too")
    parser.add_argument("--json", action="store_true", help="an object a line")
    given = parser.parse_args()
    import_onnxruntime()
    PEAKS.update({kind: gemm_peak(kind, threads=given.threads) for kind in ("int8", "fp32")})
    if not given.json:
        print(", ".join(f"{kind} {speed / 1e9:.0f} Gop/s" for kind, speed in PEAKS.items()), "at the peak\n")
    for name in given.models:
        for scheme in given.schemes if name in NAMES else [""]:
            with open_model(name, scheme, given.layers) as (path, _):
                found = {each: account(path, each, given) for each in given.passes}
                title = f"{name} {scheme}".strip()
                if given.json:
                    print(json.dumps({"model": name, "scheme": scheme, "peaks": PEAKS, "passes": found}), flush=True)
                else:
                    show(title, found, operators=given.operators)


if __name__ == "__main__":
    main()

"""What an artifact costs on this machine: its files, loading, memory, passes, and an answer.

    python benchmarks/scale.py ARTIFACT [--tokens 64 256 1024] [--cached 256 1024] [--repeats 5] [--json]
    python benchmarks/scale.py Qwen3-0.6B-diffusion-bd3lm-v0.1 Dream-v0-Instruct-7B --schemes int8 int4 [--layers 4]

The second form takes published models by name: artifacts of their geometry whose weights are noise, which takes no less
time; with `--layers`, so many of the layers and as much of the vocabulary, and everything but loading of the whole
reckoned from it. Each load is a process of its own. Cold: the files are dropped from the page cache first, where the
system can do that. The peak is that of one large product in ONNX Runtime, measured in the same run: integers
(MatMulIntegerToFloat) for int8, fp32 (MatMul) for all else; a share above 1 means a kernel faster than that product.

An answer is 128 tokens after 128, `--tokens-per-pass` at a time by the official schedule: of a block-causal model block
by block, otherwise in blocks of 32 with the dual cache. `probe` is what `dream-edge recommend` would have said, divided
by what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import dream_edge
from dream_edge.benchmark.timing import SIZE, gemm_peak, operations, time_pass
from dream_edge.models import bundled
from dream_edge.recommendation.probe import BLOCK, CANVAS, Network, cut_slice, time_slice, write_noise
from dream_edge.recommendation.published import PUBLISHED
from dream_edge_runtime.artifact import TOKENIZER, Artifact
from dream_edge_runtime.files.writing import write_file
from dream_edge_runtime.format.layout import plan_layout
from dream_edge_runtime.format.manifest import MANIFEST, FileEntry, Manifest
from dream_edge_runtime.format.memory import estimate_memory
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD
from dream_edge_runtime.graph.model import GRAPH_REVISION, derive_graph
from dream_edge_runtime.host import describe_machine, peak_memory, resident_memory
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.model import DreamModel

PROMPT = NEW = 128
NAMES = {model.repository.split("/")[1]: model for model in PUBLISHED}


@contextmanager
def make_noise(name: str, scheme: str, layers: int | None) -> Iterator[tuple[Path, float]]:
    """An artifact of a published geometry, and how many of it make the whole."""
    config = NAMES[name].config
    config, times = replace(config, mask_token_id=config.vocab_size - 1, eos_token_id=config.vocab_size - 2), 1.0
    network = Network(config=config, scheme=scheme, device="cpu")  # type: ignore[arg-type]  # a choice
    if layers:
        cut, times = cut_slice(config, layers)
        network = replace(network, config=replace(cut, mask_token_id=cut.vocab_size - 1))
    with TemporaryDirectory(dir=".", prefix="scale-") as directory:
        out = Path(directory)
        noise = write_noise(out, network).manifest
        hide_mask(out, noise)
        write_file(out / "model.onnx", derive_graph(noise.config, noise.recipe, "cpu"))
        copyfile(bundled("tiny_int8") / TOKENIZER, out / TOKENIZER)
        files = tuple(FileEntry(path.name, path.stat().st_size, "0" * 64) for path in sorted(out.iterdir()))
        write_file(out / MANIFEST, replace(noise, files=files, graph_revision=GRAPH_REVISION).to_json())
        yield out, times


def hide_mask(directory: Path, manifest: Manifest) -> None:
    """Let the mask, which is the last token, be looked up as zeros: a network of noise gives what it gets, and a mask
    that it proposes would stay one."""
    places = plan_layout(manifest.config, manifest.recipe).places
    table = next(place for place in places if place.spec.name == f"{EMBEDDING}.weight")
    zero, row = 0 if table.spec.dtype == "int8" else 128, table.size // manifest.config.vocab_size
    with (directory / table.shard).open("r+b") as file:
        file.seek(table.offset + table.size - row)
        file.write(bytes([zero]) * row)


def measure_load(given: argparse.Namespace) -> Any:
    """In this process: seconds to load, memory then and at its peak, and, where asked for, an answer and passes."""
    opened = Artifact.open(Path(given.models[0]))
    start = time.perf_counter()
    network = OnnxNetwork(opened, threads=given.threads, memory_check=False)
    found: dict[str, Any] = {
        "seconds": time.perf_counter() - start,
        "resident": resident_memory(),
        "peak": peak_memory(),
    }
    if given.tokens:
        found["answer"] = answer(DreamModel(network, opened.tokenizer()), given.tokens_per_pass)
        found["answering"] = peak_memory()
        found["probed"] = [
            time_pass(network, CANVAS, given.repeats, rows=BLOCK),
            time_pass(network, CANVAS, given.repeats, block=BLOCK),
        ]
    for count in given.tokens or []:
        found[f"pass {count}"] = time_pass(network, count, given.repeats)
    for count in given.cached or []:
        found[f"block {count}"] = time_pass(network, count + BLOCK, given.repeats, block=BLOCK)
    return found | {"running": peak_memory()}


def answer(model: DreamModel, tokens_per_pass: float) -> dict[str, float]:
    prompt = np.random.default_rng(0).integers(0, model.config.mask_token_id - 1, PROMPT).tolist()
    cache: dict[str, Any] = {} if model.config.causal_block else {"cache": "dual", "block_length": BLOCK}
    steps = round((BLOCK if model.config.causal_block else NEW) / tokens_per_pass)  # of a block, of all
    found = model.generate(prompt, max_new_tokens=NEW, steps=steps, algorithm="entropy", seed=0, **cache)
    return {"seconds": found.seconds, "passes": found.passes, "tokens": len(found.token_ids)}


def in_child(*arguments: str) -> Any:
    command = [sys.executable, __file__, *arguments, "--child"]
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


def measure(artifact: Path, given: argparse.Namespace, times: float = 1.0) -> Any:
    opened = Artifact.open(artifact)
    config, formats = opened.manifest.config, opened.manifest.recipe.targets["cpu"]
    common = [str(artifact), "--repeats", str(given.repeats), "--tokens-per-pass", str(given.tokens_per_pass)]
    common += ["--threads", str(given.threads)] if given.threads else []
    cold = drop_from_page_cache(artifact)
    loads = {"cold" if cold else "first": in_child(*common)}
    tokens, cached = given.tokens or [64, 256, 1024], given.cached or [256, 1024]
    warm = in_child(*common, "--tokens", *map(str, tokens), "--cached", *map(str, cached))
    loads["warm"] = warm
    kind = "int8" if formats.of(LM_HEAD).kind == "row" else "fp32"
    speed = gemm_peak(kind, size=given.peak_size, threads=given.threads)
    expected = estimate_memory(config, formats)
    seconds = {f"pass {count}": (count, count) for count in tokens}
    seconds |= {f"block {count}": (BLOCK, count + BLOCK) for count in cached}
    passes = {
        name: {
            "milliseconds": 1000 * times * warm[name],
            "share_of_peak": operations(config, active, keys) / warm[name] / speed,
        }
        for name, (active, keys) in seconds.items()
    }
    scheme = opened.manifest.recipe.scheme
    network = Network(config=config, scheme=scheme, device="cpu")
    probed = time_slice(network, threads=given.threads)
    return {
        "artifact": str(artifact),
        "scheme": scheme,
        "bytes": opened.size,
        "times": times,
        "loads": loads,
        "passes": passes,
        "answer": {
            **warm["answer"],
            "seconds": times * warm["answer"]["seconds"],
            "tokens_per_second": NEW / times / warm["answer"]["seconds"],
        },
        "peak": {"kind": kind, "operations_per_second": speed},
        "expected": {"loaded": expected.weights, "loading": expected.weights + expected.loading},
        "probe": {"full": probed.full / warm["probed"][0], "cached": probed.cached / warm["probed"][1]},
        "machine": describe_machine(),
    }


def show(found: Any) -> None:
    def gigabytes(count: int | None) -> str:
        return "–" if count is None else f"{count / 1e9:.2f}"

    times = "" if found["times"] == 1 else f"; a slice, {found['times']:g} of which are the whole"
    size = gigabytes(found["bytes"])
    print(f"{found['artifact']} ({found['scheme']}, {size} GB{times}); {found['machine']}\n")
    print("| load | s | GB loaded | GB peak | GB peak after an answer | after passes |\n|---|---|---|---|---|---|")
    for name, each in found["loads"].items():
        sizes = " | ".join(gigabytes(each.get(key)) for key in ("resident", "peak", "answering", "running"))
        print(f"| {name} | {each['seconds']:.2f} | {sizes} |")
    expected = found["expected"]
    print(f"\nexpected: {gigabytes(expected['loaded'])} loaded, {gigabytes(expected['loading'])} peak\n")
    print("| pass over tokens, block of 32 against cached | ms | share of peak |\n|---|---|---|")
    for name, each in found["passes"].items():
        print(f"| {name} | {each['milliseconds']:.1f} | {each['share_of_peak']:.0%} |")
    peak, answered, probe = found["peak"], found["answer"], found["probe"]
    print(
        f"\nan answer: {answered['tokens']} tokens in {answered['passes']} passes, {answered['seconds']:.2f} s, "
        f"{answered['tokens_per_second']:.1f} tokens/s"
    )
    print(f"peak: {peak['operations_per_second'] / 1e9:.0f} Gop/s, {peak['kind']} matrix product")
    print(f"probe / measured: {probe['full']:.2f} of a full pass, {probe['cached']:.2f} of a block\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(NAMES)
    parser.add_argument("models", nargs="+", metavar="MODEL", help=f'directory of an artifact, "tiny", or of {names}')
    parser.add_argument("--schemes", nargs="+", default=["int8"], choices=["int8", "int4"], help="of published models")
    parser.add_argument("--layers", type=int, help="of published models, instead of all")
    parser.add_argument("--tokens", type=int, nargs="+", help="of full passes  [default: 64 256 1024]")
    parser.add_argument("--cached", type=int, nargs="+", help="that a block attends to  [default: 256 1024]")
    parser.add_argument("--tokens-per-pass", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=5, help="passes of which the median counts")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--peak-size", type=int, default=SIZE, help="rows and columns of the product")
    parser.add_argument("--json", action="store_true", help="an object a line")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure_load(given)))
        return
    for name in given.models:
        if name in NAMES:
            for scheme in given.schemes:
                with make_noise(name, scheme, given.layers) as (path, times):
                    found = measure(path, given, times) | {"artifact": name}
                report(found, as_json=given.json)
        else:
            report(measure(dream_edge.resolve_artifact(name), given), as_json=given.json)


def report(found: Any, *, as_json: bool) -> None:
    print(json.dumps(found), flush=True) if as_json else show(found)


if __name__ == "__main__":
    main()

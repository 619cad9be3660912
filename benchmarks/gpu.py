"""What a GPU makes of a model: correctness, speed, memory, beside PyTorch and bitsandbytes on the same weights.

    python benchmarks/gpu.py CHECKPOINT [--scheme int4] [--artifact DIR] [--json]
    python benchmarks/gpu.py --geometry dream-7b --layers 28 --work DIR

needs the extras gpu and export, a PyTorch for CUDA, and with --geometry dashscope (for the vocabulary). What is not
there is not measured, and that is said. With --device cpu the CPU runs the same graph: that tries the path, and says
nothing of a GPU.

Each part is a process of its own, so that none holds memory that another is measured against, and all together end
after --minutes. A pass "with cache" computes a block of 32 tokens and the one before, as a generation does, beside the
keys and values of all others; both kinds project 32 rows. Random weights cannot say how many tokens a pass reveals: the
end-to-end time is for one token a pass. ORT_FPA_INTB_DEBUG=1 makes ONNX Runtime tell which kernels it chose.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dream_edge.models import TINY, bundled
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import OutOfMemory
from dream_edge_runtime.format.manifest import Manifest
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, matrix_shapes, weight_of
from dream_edge_runtime.host import free_gpu_memory
from dream_edge_runtime.inference.cuda import ATTENTION
from dream_edge_runtime.inference.devices import import_onnxruntime
from dream_edge_runtime.inference.memory import estimate_gpu_memory
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.model import DreamModel

ROOT = Path(__file__).parents[1]
BLOCK = 32


def timed(run: Callable[[], Any], repeats: int, wait: Callable[[], None] = lambda: None) -> float:
    """Median seconds of a call, after two that warm up."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


# --- ours ------------------------------------------------------------------------------------------------------------


def open_network(given: argparse.Namespace, device: str) -> Any:
    return OnnxNetwork(Artifact.open(given.artifact), device=device, graph="cuda")


def dream_edge(given: argparse.Namespace) -> dict[str, Any]:
    """Passes with and without cache, tokens a second and memory."""
    before = free_gpu_memory() if given.device == "cuda" else None
    start = time.perf_counter()
    network = open_network(given, given.device)
    found: dict[str, Any] = {"load_s": time.perf_counter() - start, "passes": passes(network, given)}
    if given.device == "cuda":
        found["attention"] = ATTENTION
    model = DreamModel(network, Artifact.open(given.artifact).tokenizer())
    count = min(given.new_tokens, network.config.context // 2)
    prompt = np.random.default_rng(1).integers(0, min(1000, network.config.vocab_size), count).tolist()
    options: dict[str, Any] = {"steps": count, "algorithm": "maskgit_plus", "block_length": min(BLOCK, count)}
    for cache in ("none", "dual"):
        generation = model.generate(prompt, max_new_tokens=count, cache=cache, **options)
        found[f"tokens_per_second_{cache}"] = len(generation.token_ids) / generation.seconds
    after = free_gpu_memory() if given.device == "cuda" else None
    found["gpu_bytes"] = None if before is None or after is None else before - after
    return found


def passes(network: Any, given: argparse.Namespace) -> dict[str, Any]:
    found = {}
    for count in sizes(given.tokens, network.config.context):
        ids = np.random.default_rng(count).integers(0, network.config.vocab_size, (1, count))
        positions, active = np.arange(count)[None], min(BLOCK + 1, count)
        computed = np.arange(count - active, count)
        rows = computed[-BLOCK:]
        whole, fresh = np.ones((1, 1, count), bool), np.ones((1, 1, count + active), bool)
        fresh[..., computed] = False  # computed again
        start = time.perf_counter()
        full = network.forward(ids, positions, whole, rows, 0.0, keep=True)
        first = time.perf_counter() - start

        def full_pass(each: Any = (ids, positions, whole, rows)) -> None:
            network.forward(*each, 0.0)

        part = ids[:, computed], positions[:, computed], fresh, rows - computed[0]

        def cached_pass(each: Any = part, past: Any = full.key_values) -> None:
            network.forward(*each, 0.0, past=past)

        found[str(count)] = {
            "full_s": timed(full_pass, given.repeats),
            "cached_s": timed(cached_pass, given.repeats),
            "first_s": first,  # kernels for so many tokens are tried in it
        }
    return found


def growing(given: argparse.Namespace) -> dict[str, Any]:
    """What a conversation that grows leaves taken, and whether a pass too large for the card harms the next one."""
    if given.device != "cuda":
        return {"missing": "a CPU's memory is not bounded by an arena"}
    before = free_gpu_memory()
    network = open_network(given, given.device)
    longest = min(1874, network.config.context)

    def full_pass(count: int, rows: int) -> None:
        whole = np.ones((1, 1, count), bool)
        network.forward(np.zeros((1, count), np.int64), np.arange(count)[None], whole, np.arange(rows), 0.0, keep=True)

    for count in range(longest % 97 or 97, longest + 1, 97):
        full_pass(count, min(BLOCK, count))
    after, outcome = free_gpu_memory(), "nothing tried was too large"
    for times in (1, 2, 4, 8, 16, 32):
        try:
            full_pass(longest * times, longest * times)
        except OutOfMemory:
            full_pass(longest, BLOCK)
            outcome = f"{longest * times} tokens were too many, and {longest} ran after that"
            break
    return {"gpu_bytes": before - after if before and after else None, "full_memory": outcome}


def expanded_products(given: argparse.Namespace) -> dict[str, Any]:
    """The same without kernels for packed weights (ORT_FPA_INTB_GEMM=0, set by whoever started this process)."""
    if given.device != "cuda":
        return {"missing": "kernels for packed weights are CUDA's"}
    start = time.perf_counter()
    network = open_network(given, given.device)
    return {"load_s": time.perf_counter() - start, "passes": passes(network, given)}


def correctness(given: argparse.Namespace) -> dict[str, Any]:
    """Logits of every row against those of the CPU provider, with and without cache."""
    count = sizes(given.tokens[:1], 64)[0]
    there, here = open_network(given, given.device), open_network(given, "cpu")
    ids = np.random.default_rng(0).integers(0, here.config.vocab_size, (1, count))
    positions, half = np.arange(count)[None], count // 2
    mask, found = np.ones((1, 1, count), bool), {}
    logits: dict[str, list[Any]] = {"full": [], "cached": []}
    for network in (there, here):
        rows = network.forward(ids, positions, mask, np.arange(count), 0.0)
        logits["full"].append(rows.fetch_logits())
        first = network.forward(ids[:, :half], positions[:, :half], mask[..., :half], np.arange(1), 0.0, keep=True)
        past, left = first.key_values, np.arange(count - half)
        later = network.forward(ids[:, half:], positions[:, half:], mask, left, 0.0, past=past)
        logits["cached"].append(later.fetch_logits())
    for kind, (a, b) in logits.items():
        found[kind] = {
            "largest_difference": float(np.nanmax(np.abs(a - b)) / (np.abs(b).max() or 1)),
            "same_top": float((a.argmax(axis=1) == b.argmax(axis=1)).mean()),
            "rows_with_nan": int((~np.isfinite(a)).any(axis=1).sum()),
        }
    return found


# --- the others ------------------------------------------------------------------------------------------------------


def torch_passes(given: argparse.Namespace, quantized: bool) -> dict[str, Any]:
    """Full passes of the reference network; it has no cache."""
    import torch

    if problem := torch_problem(given.device):
        return {"missing": problem}
    network = torch_network(given, quantized)
    wait = torch.cuda.synchronize if given.device == "cuda" else torch.cpu.synchronize
    found = {}
    for count in sizes(given.tokens, network.config.context):
        ids = torch.randint(network.config.vocab_size, (1, count), device=given.device)

        def full_pass(ids: Any = ids) -> None:
            with torch.inference_mode(), torch.autocast(given.device, torch.bfloat16):
                network.lm_head(network.model(ids)[:, -BLOCK:]).float()

        found[str(count)] = {"full_s": timed(full_pass, given.repeats, wait), "cached_s": None}
    return {"passes": found, "gpu_bytes": torch.cuda.max_memory_reserved() if given.device == "cuda" else None}


def torch_network(given: argparse.Namespace, quantized: bool) -> Any:
    """Weight by weight onto the device, so that no fp32 copy of the model is needed."""
    import torch

    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.reference.model import Dream

    checkpoint = Checkpoint.open(Path(given.checkpoint))
    with torch.device("meta"):
        network = Dream(checkpoint.config)
    weights = {name: checkpoint.tensor(name).to(given.device, torch.bfloat16) for name in checkpoint.names}
    if checkpoint.config.tie_word_embeddings:
        weights[weight_of(LM_HEAD)] = weights[weight_of(EMBEDDING)]
    network.load_state_dict(weights, strict=True, assign=True)
    del weights
    if quantized:
        layers: Any = network.model.layers
        for block in (block for layer in layers for block in (layer.self_attn, layer.mlp)):
            for name, linear in list(block.named_children()):
                setattr(block, name, packed(linear, given.device))
    if given.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return network.eval().requires_grad_(False)


def packed(linear: Any, device: str) -> Any:
    import torch
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    sizes = linear.in_features, linear.out_features
    module: Any = Linear4bit(  # type: ignore[no-untyped-call]
        *sizes, compute_dtype=torch.bfloat16, quant_type="nf4", device="meta"
    )
    weight = linear.weight.data.cpu()  # quantized on the way to the device
    module.weight = Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=False)
    module.bias = linear.bias
    return module.to(device)


def ceilings(given: argparse.Namespace) -> dict[str, Any]:
    """Bytes a second of a copy (read and written), operations a second of a large fp16 product."""
    import torch

    if problem := torch_problem(given.device):
        return {"missing": problem}
    on_gpu = given.device == "cuda"
    wait = torch.cuda.synchronize if on_gpu else torch.cpu.synchronize
    source = torch.ones((1 << 30) if on_gpu else (1 << 26), dtype=torch.uint8, device=given.device)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), given.repeats, wait)
    size, dtype = (8192, torch.float16) if on_gpu else (512, torch.float32)
    a = torch.randn(size, size, device=given.device).to(dtype)
    product = timed(lambda: torch.mm(a, a), given.repeats, wait)
    return {
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "bytes_per_second": 2 * source.numel() / copy,
        "operations_per_second": 2 * size**3 / product,
    }


def torch_problem(device: str) -> str | None:
    import torch

    absent = device == "cuda" and not torch.cuda.is_available()
    return f"PyTorch {torch.__version__} sees no GPU; install its build for CUDA" if absent else None


# --- together --------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "dream-edge": dream_edge,
    "expanded products": expanded_products,
    "correctness": correctness,
    "growing": growing,
    "PyTorch bf16": lambda given: torch_passes(given, quantized=False),
    "bitsandbytes NF4": lambda given: torch_passes(given, quantized=True),
    "ceilings": ceilings,
}


OF_THE_CHECKPOINT = ("PyTorch bf16", "bitsandbytes NF4", "correctness")


def sizes(tokens: list[int], most: int) -> list[int]:
    return sorted({min(count, most) for count in tokens})


def work_of(manifest: Manifest, active: int, keys: int) -> tuple[int, int]:
    """Bytes of weights that a pass reads, and its multiplications and additions."""
    config, formats = manifest.config, manifest.recipe.targets["cuda"]
    shapes = {name: shape for name, shape in matrix_shapes(config).items() if name != EMBEDDING}
    read = sum(formats.of(name).stored_bytes(*shape) for name, shape in shapes.items())
    rows = {name: min(BLOCK, active) if name == LM_HEAD else active for name in shapes}
    products = sum(2 * rows[name] * outputs * inputs for name, (outputs, inputs) in shapes.items())
    return read, products + 4 * active * keys * config.hidden_size * config.num_hidden_layers


def in_child(part: str, given: argparse.Namespace) -> dict[str, Any]:
    command = [
        sys.executable,
        __file__,
        str(given.checkpoint or "none"),
        "--artifact",
        str(given.artifact),
        "--child",
        part,
    ]
    command += ["--device", given.device, "--repeats", str(given.repeats), "--new-tokens", str(given.new_tokens)]
    command += ["--tokens", *map(str, given.tokens)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if part == "expanded products":
        environment["ORT_FPA_INTB_GEMM"] = "0"
    left = given.until - time.monotonic()
    try:
        run = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=max(1, left)
        )
    except subprocess.TimeoutExpired:
        return {"missing": f"the time was up (--minutes {given.minutes:g})"}
    if run.returncode == 0:
        return dict(json.loads(run.stdout.splitlines()[-1]))
    return {"missing": f"it failed: {(run.stderr.strip() or f'exit code {run.returncode}').splitlines()[-1][:300]}"}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    manifest = Artifact.open(given.artifact).manifest
    parts: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        print(f"measuring: {part}", file=sys.stderr)
        if part not in given.parts:
            parts[part] = {"missing": "not asked for (--parts)"}
        elif given.checkpoint is None and part in OF_THE_CHECKPOINT:
            parts[part] = {"missing": "there is no checkpoint: pip install dashscope"}
        else:
            parts[part] = in_child(part, given)
    top = parts["ceilings"]
    for count, each in parts["dream-edge"].get("passes", {}).items():
        tokens, block = int(count), min(BLOCK + 1, int(count))
        for kind, active, keys in (("full", tokens, tokens), ("cached", block, tokens + block)):
            read, operations = work_of(manifest, active, keys)
            if "missing" not in top:
                each[f"{kind}_share_of_bandwidth"] = read / each[f"{kind}_s"] / top["bytes_per_second"]
                each[f"{kind}_share_of_matmul"] = operations / each[f"{kind}_s"] / top["operations_per_second"]
    missing = {name: each["missing"] for name, each in parts.items() if "missing" in each}
    if given.device == "cpu":
        missing["a GPU"] = "all of this ran on the CPU (--device cpu): none of its figures is a GPU's"
    return {
        "device": given.device,
        "scheme": manifest.recipe.scheme,
        "layers": manifest.config.num_hidden_layers,
        "hidden_size": manifest.config.hidden_size,
        "versions": f"ONNX Runtime {import_onnxruntime().__version__}, {time.strftime('%Y-%m-%d')}",
        "parts": parts,
        "expected_gpu_bytes": estimate_gpu_memory(
            manifest.config, manifest.recipe, canvas=max(given.tokens), rows=BLOCK
        ).total,
        "not_measured": missing,
    }


def show(found: dict[str, Any]) -> None:
    parts = found["parts"]
    where = parts["ceilings"].get("gpu") or found["device"]
    print(f"{found['scheme']}, {found['layers']} layers × {found['hidden_size']}, on {where}; {found['versions']}\n")
    print("| tokens | what | ms without cache | ms with cache | of bandwidth | of matmul |\n|---|---|---|---|---|---|")
    for part, each in parts.items():
        for count, times in each.get("passes", {}).items():
            shown = [f"{1000 * times[kind]:.2f}" if times[kind] else "–" for kind in ("full_s", "cached_s")]
            for share in ("share_of_bandwidth", "share_of_matmul"):
                each_kind = [times.get(f"{kind}_{share}") for kind in ("full", "cached")]
                shown.append(" / ".join("–" if value is None else f"{value:.0%}" for value in each_kind))
            print(f"| {count} | {part} | {' | '.join(shown)} |")
    ours = parts["dream-edge"]
    if "missing" not in ours:
        without, with_cache = (f"{ours[f'tokens_per_second_{cache}']:.1f}" for cache in ("none", "dual"))
        print(f"\nend to end, one token a pass: {without} tokens/s without cache, {with_cache} with")
        print(f"loaded in {ours['load_s']:.1f} s")
        if "load_s" in parts["expanded products"]:
            print(
                f"loaded in {parts['expanded products']['load_s']:.1f} s where no kernels for packed weights are tried"
            )
        for count, times in ours["passes"].items():
            print(f"first pass of {count} tokens: {1000 * times['first_s']:.1f} ms (kernels for this size are tried)")
        print(f"attention: {ours.get('attention', 'as the CPU provider has it')}")
    for kind, each in parts["correctness"].items():
        if isinstance(each, dict):
            difference = f"{each['largest_difference']:.2e} of the largest"
            same = f"same best token in {each['same_top']:.1%} of rows"
            print(f"against the CPU provider, {kind} pass: logits differ by at most {difference}, {same}")
            if each["rows_with_nan"]:
                print(f"{kind} pass: {each['rows_with_nan']} rows are not numbers")
    if "full_memory" in parts["growing"]:
        print(f"a conversation grew to 1,874 tokens; then: {parts['growing']['full_memory']}")
    for name, each in parts.items():
        if each.get("gpu_bytes"):
            print(f"GPU memory, {name}, without CUDA's context: {each['gpu_bytes'] / 1e9:.2f} GB")
    print(f"GPU memory expected of dream-edge, with CUDA's own: {found['expected_gpu_bytes'] / 1e9:.2f} GB")
    if top := parts["ceilings"].get("bytes_per_second"):
        products = parts["ceilings"]["operations_per_second"]
        print(f"ceilings: {top / 1e9:.0f} GB/s copied, {products / 1e12:.2f} Top/s")
    for name, why in found["not_measured"].items():
        print(f"NOT MEASURED: {name}: {why}")


@contextmanager
def prepared(given: argparse.Namespace) -> Iterator[None]:
    """Checkpoint and artifact, written if they are not given; in a directory that goes away unless --work names one."""
    with tempfile.TemporaryDirectory(prefix="dream-edge-") as temporary:
        work = given.work or Path(temporary)
        if given.geometry:
            try:
                given.checkpoint = synthesized(work, given.geometry, given.layers)
            except Exception as error:  # whatever it lacks, our own passes can be timed with zeros for weights
                print(f"no checkpoint was written: {error}", file=sys.stderr)
                given.artifact = zeros(work, given.scheme, given.layers)
        elif given.checkpoint == TINY:
            given.checkpoint = bundled(TINY)
        if given.artifact is None:
            given.artifact = exported(work, Path(given.checkpoint), given.scheme)
        yield


def synthesized(work: Path, name: str, layers: int | None) -> Path:
    sys.path.insert(0, str(ROOT))
    from tools.synthetic.checkpoint import synthesize
    from tools.synthetic.family import geometry

    out = work / f"{name}-{layers or 'all'}"
    if not out.exists():
        print(f"writing {out}", file=sys.stderr)
        synthesize(geometry(name).sized(num_hidden_layers=layers), out)
    return out


def zeros(work: Path, scheme: str, layers: int | None) -> Path:
    from tools.cuda_standin.sparse import dream_7b, write_sparse

    return write_sparse(dream_7b(layers or 28), scheme, work / f"zeros-{scheme}")


def exported(work: Path, checkpoint: Path, scheme: str) -> Path:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.export import export

    out = work / f"{checkpoint.name}-{scheme}-cuda"
    if not out.exists():
        print(f"exporting {out}", file=sys.stderr)
        opened = Checkpoint.open(checkpoint)
        export(opened, out, Recipe.for_scheme(scheme, target="cuda", layers=opened.config.num_hidden_layers))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", help='directory, or "tiny"')
    parser.add_argument("--geometry", help="write a checkpoint of this geometry with random weights instead")
    parser.add_argument("--layers", type=int, help="of the geometry; all of them unless given")
    parser.add_argument("--artifact", type=Path, help="exported from the checkpoint with --target cuda or all")
    parser.add_argument("--scheme", default="int4")
    parser.add_argument("--work", type=Path, help="keep checkpoint and artifact there, for the next time")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 256, 1024])
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=10, help="passes of which the median counts")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="all of them unless given")
    parser.add_argument("--minutes", type=float, default=8, help="after which parts that are left are not measured")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(PARTS[given.child](given)))
        return
    if bool(given.checkpoint) == bool(given.geometry):
        parser.error("name a checkpoint, or --geometry")
    given.until = time.monotonic() + 60 * given.minutes
    with prepared(given):
        found = measure(given)
    print(json.dumps(found)) if given.json else show(found)


if __name__ == "__main__":
    main()

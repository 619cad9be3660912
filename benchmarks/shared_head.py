"""An lm_head that is the embedding: what each way to store one matrix for both costs.

python benchmarks/shared_head.py [--vocabulary 151936] [--hidden 896] [--threads 1] [--rows 32 256]

For each format, in a process of its own: bytes stored, seconds to load, memory held, and the best of ten times of
products with so many rows of activations. Weights are random; time and size do not depend on them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]

import numpy as np  # noqa: E402

from dream_edge_runtime.format.layout import Layout, TensorSpec, matrix_specs  # noqa: E402
from dream_edge_runtime.format.recipe import ROW, TABLE, WeightFormat  # noqa: E402
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD  # noqa: E402
from dream_edge_runtime.graph.linear import Activations, Linear, look_up  # noqa: E402
from dream_edge_runtime.graph.onnx_writer import write_onnx  # noqa: E402
from dream_edge_runtime.graph.op import Op  # noqa: E402
from dream_edge_runtime.inference.devices import import_onnxruntime  # noqa: E402

GROUPS = WeightFormat(kind="block", bits=8, block_size=128)
FORMATS: dict[str, tuple[WeightFormat, WeightFormat]] = {
    "two: groups of 128 to look up, columns to multiply": (GROUPS, ROW),
    "one: rows, turned round when loaded": (TABLE, TABLE),
    "one: groups of 128": (GROUPS, GROUPS),
}
"""What is looked up, and what is multiplied."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=896)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--format", choices=FORMATS, help="only this one, in this process")
    given = parser.parse_args()
    if given.format:
        print(measure(given.format, given.vocabulary, given.hidden, given.threads, given.rows))
        return
    print("| stored | MB | load, s | memory, MB |" + "".join(f" {rows} rows, ms |" for rows in given.rows))
    print("|---" * (4 + len(given.rows)) + "|", flush=True)
    for name in FORMATS:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--format", name], check=True)


def measure(name: str, vocabulary: int, hidden: int, threads: int, asked: list[int]) -> str:
    looked_up, multiplied = FORMATS[name]
    shared = looked_up == multiplied
    table, head = (
        matrix_specs(part, (vocabulary, hidden), each)
        for part, each in zip((EMBEDDING, LM_HEAD), FORMATS[name], strict=True)
    )
    layout = Layout.of([[spec] for spec in (table if shared else [*table, *head])], 1 << 40)
    places = {place.spec.name: place for place in layout.places}
    if shared:
        places |= {spec.name: places[spec.name.replace(LM_HEAD, EMBEDDING)]._replace(spec=spec) for spec in head}
    op = Op([TensorSpec("x", "float32", ("rows", hidden)), TensorSpec("ids", "int64", ("rows",))], places)
    op.outputs["embedded"] = look_up(op, op.input("ids"), EMBEDDING, looked_up)
    op.outputs["logits"] = Linear(op, LM_HEAD, multiplied, vocabulary, hidden)(Activations(op.input("x")))
    specs = [TensorSpec("embedded", "float32", ("rows", hidden)), TensorSpec("logits", "float32", ("rows", vocabulary))]
    with TemporaryDirectory() as directory:
        rng, (size,) = np.random.default_rng(0), layout.sizes().values()
        file = Path(directory) / "weights-00001.bin"
        file.write_bytes(rng.integers(0, 64, size, np.uint8).tobytes())
        options = import_onnxruntime().SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", directory)
        graph, before, start = write_onnx(op, specs, name="shared_head"), anonymous(), time.perf_counter()
        session = import_onnxruntime().InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        loaded, held = time.perf_counter() - start, anonymous() - before
        times = []
        for rows in asked:
            feeds = {"x": rng.standard_normal((rows, hidden), np.float32), "ids": rng.integers(0, vocabulary, rows)}
            taken = []
            for _ in range(10):
                start = time.perf_counter()
                session.run(None, feeds)
                taken.append(time.perf_counter() - start)
            times.append(f" {1000 * min(taken):.1f} |")
        return f"| {name} | {size / 1e6:.0f} | {loaded:.2f} | {held / 1e6:.0f} |" + "".join(times)


def anonymous() -> int:
    """Bytes of this process that no file backs; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


if __name__ == "__main__":
    main()

"""Fuzz the checks of an artifact from a stranger with atheris (`pip install "dream-edge[fuzz]"`).

    python tools/fuzz/fuzz_artifact.py manifest|graph [CORPUS] [libFuzzer options, e.g. -max_total_time=300]

Starts from the bundled artifact. Whatever comes out but a DreamEdgeError is a finding; its input is kept as crash-*.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dream_edge_runtime"]):
    from dream_edge_runtime.errors import DreamEdgeError
    from dream_edge_runtime.graph_check import check_graph_bytes
    from dream_edge_runtime.manifest import MANIFEST, Manifest

ARTIFACT = Path(__file__).parents[2] / "dream_edge" / "tiny_int8"
KNOWN = Manifest.read(ARTIFACT)
SIZES = {entry.name: entry.size for entry in KNOWN.files}


def manifest(data: bytes) -> None:
    try:
        found = Manifest.from_json(data)
    except DreamEdgeError:
        return
    if Manifest.from_json(found.to_json()) != found:
        raise AssertionError("a manifest that is read must be written as it was")


def graph(data: bytes) -> None:
    try:
        check_graph_bytes(data, "graph", KNOWN.config, KNOWN.recipe.targets["cpu"], "cpu", SIZES)
    except DreamEdgeError:
        return


def main() -> None:
    target = {"manifest": manifest, "graph": graph}[sys.argv[1]]
    seed = (ARTIFACT / (MANIFEST if target is manifest else KNOWN.graphs["cpu"])).read_bytes()
    with tempfile.TemporaryDirectory() as seeds:
        Path(seeds, "seed").write_bytes(seed)
        # atheris ends the process itself, so the folder of seeds is named after the user's own corpus
        atheris.Setup([sys.argv[0], *sys.argv[2:], seeds, f"-max_len={2 * len(seed)}"], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

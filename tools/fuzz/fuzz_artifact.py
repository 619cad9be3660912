"""Fuzz the checks of an artifact from a stranger with atheris (`pip install --group fuzz`).

    python tools/fuzz/fuzz_artifact.py manifest|graph ARTIFACT [CORPUS] [libFuzzer options, e.g. -max_total_time=300]

Starts from ARTIFACT, e.g. dream_edge/tiny_int8; one of a single layer is tried far more often in the same time.
Whatever comes out but a DreamEdgeError is a finding; its input is kept as crash-*.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dream_edge_runtime"]):
    from dream_edge_runtime.errors import DreamEdgeError
    from dream_edge_runtime.format.manifest import MANIFEST, Manifest
    from dream_edge_runtime.graph.graph_check import check_graph_bytes

TARGETS = ("manifest", "graph")


def manifest(data: bytes) -> None:
    try:
        found = Manifest.from_json(data)
    except DreamEdgeError:
        return
    if found.to_json() != data:
        raise AssertionError("a manifest that is read must be written as it was")


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(__doc__)
    artifact = Path(sys.argv[2])
    known = Manifest.read(artifact)
    formats, sizes = known.recipe.targets["cpu"], {entry.name: entry.size for entry in known.files}

    def graph(data: bytes) -> None:
        try:
            check_graph_bytes(data, "graph", known.config, formats, "cpu", sizes)
        except DreamEdgeError:
            return

    target, seed_file = (manifest, MANIFEST) if sys.argv[1] == "manifest" else (graph, known.graphs["cpu"])
    seed = (artifact / seed_file).read_bytes()
    with tempfile.TemporaryDirectory() as seeds:
        Path(seeds, "seed").write_bytes(seed)
        # atheris ends the process itself, so the folder of seeds is named after the user's own corpus
        atheris.Setup([sys.argv[0], *sys.argv[3:], seeds, f"-max_len={2 * len(seed)}"], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

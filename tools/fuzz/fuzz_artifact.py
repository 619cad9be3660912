"""Fuzz the checks of an artifact from a stranger with atheris (`pip install --group fuzz`).

    python tools/fuzz/fuzz_artifact.py ARTIFACT [CORPUS] [libFuzzer options, e.g. -max_total_time=300]

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
    from dream_edge_runtime.format.layout import plan_layout
    from dream_edge_runtime.format.manifest import MANIFEST, Manifest


def manifest(data: bytes) -> None:
    try:
        found = Manifest.from_json(data)
    except DreamEdgeError:
        return
    if found.graph_revision and found.to_json() != data:  # schema 1.0 had none
        raise AssertionError("a manifest that is read must be written as it was")
    plan_layout(found.config, found.recipe)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    seed = (Path(sys.argv[1]) / MANIFEST).read_bytes()
    with tempfile.TemporaryDirectory() as seeds:
        Path(seeds, "seed").write_bytes(seed)
        # atheris ends the process itself, so the folder of seeds is named after the user's own corpus
        atheris.Setup([sys.argv[0], *sys.argv[2:], seeds, f"-max_len={2 * len(seed)}"], manifest)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

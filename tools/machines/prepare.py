"""Export the tiny Dream in every scheme and compute its exact logits: what tools/machines/smoke.py runs on.

python tools/machines/prepare.py build/machines

Writes a folder for each scheme, exact.npz (logits of the fixed inputs from the stored weights, in double precision)
and results/ (what smoke.py finds on this machine, with which others are compared).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("", "runtime", "export", "tests")]

from dream_edge_runtime.artifact import Artifact  # noqa: E402
from dream_edge_runtime.format.layout import weight_places  # noqa: E402
from dream_edge_runtime.format.recipe import SCHEMES  # noqa: E402
from dream_edge_runtime.format.tensors import EMBEDDING, matrix_shapes  # noqa: E402
from support.arithmetic import dequantized  # noqa: E402
from support.oracle import DoubleArray, oracle_logits  # noqa: E402
from tools.machines.smoke import fixed_inputs, go_through  # noqa: E402


def main() -> None:
    import dream_edge

    parser = argparse.ArgumentParser(description="Export the tiny Dream in every scheme.")
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    for scheme in SCHEMES:
        dream_edge.export("tiny", out / scheme, scheme=scheme, force=True)
    exact = {scheme: exact_logits(Artifact.open(out / scheme)) for scheme in SCHEMES}
    np.savez_compressed(out / "exact.npz", allow_pickle=False, **exact)
    (out / "results").mkdir(exist_ok=True)
    sys.exit(go_through(out, out / "results", out / "results", list(SCHEMES)).failed > 0)


def exact_logits(artifact: Artifact) -> DoubleArray:
    """Of the fixed inputs, from the weights as they are stored."""
    config, recipe = artifact.manifest.config, artifact.manifest.recipe
    arrays = {name: artifact.map_tensor(place) for name, place in weight_places(config, recipe, "cpu").items()}
    matrices = {}
    for name, (_, inputs) in matrix_shapes(config).items():
        weights = recipe.targets["cpu"].of(name)
        parts: dict[str, Any] = {each[len(name) + 1 :]: arrays[each] for each in arrays if each.startswith(f"{name}.")}
        if name == EMBEDDING and weights.kind == "block":
            parts["weight"] = parts["weight"].reshape(len(parts["weight"]), weights.blocks(inputs), -1)
        matrices[name] = dequantized(parts, weights, inputs)
    ids, valid = fixed_inputs(config.vocab_size, config.mask_token_id)

    def product(name: str, x: DoubleArray) -> DoubleArray:
        return np.asarray(x @ matrices[name].T)

    vectors = {name: array for name, array in arrays.items() if name.endswith((".bias", "norm.weight"))}
    return oracle_logits(config, matrices[EMBEDDING], vectors, product, ids, valid)


if __name__ == "__main__":
    main()

"""Bits against loss: recipes by measurement beside those of the schemes, at the same bits per weight.

    dream-edge sensitivity CHECKPOINT --out s.json
    python benchmarks/budgets.py CHECKPOINT --sensitivity s.json [--sequences N] [--data FILE]

Both are exported and held against the checkpoint by `dream-edge compare`, on texts other than those measured on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dream_edge_runtime.artifact import Artifact

STANDARD = [
    ("int4", 128),
    ("int4", 64),
    ("int4", 32),
    ("mixed", 128),
    ("mixed", 64),
    ("mixed", 32),
]


@dataclass(frozen=True)
class Row:
    """Bits per weight, KL and its standard error: of a scheme's own recipe, and by measurement within its bits."""

    name: str
    standard: tuple[float, float, float]
    measured: tuple[float, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--sensitivity", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(table(rows(given.checkpoint, given.sensitivity.absolute(), given.sequences, given.data, Path(directory))))


def rows(checkpoint: str, sensitivity: Path, sequences: int, data: Path | None, work: Path) -> list[Row]:
    names = [f"{scheme}-{block_size}" for scheme, block_size in STANDARD]
    for name, (scheme, block_size) in zip(names, STANDARD, strict=True):
        _run("export", checkpoint, work / name, "--scheme", scheme, "--block-size", block_size)
        budget = _bits(work / name) + 1e-9
        options = ("--scheme", "mixed", "--bits", budget, "--sensitivity", sensitivity)
        _run("export", checkpoint, work / f"{name}-bits", *options)
    every = [work / each for name in names for each in (name, f"{name}-bits")]
    options = ("--reference", checkpoint, "--sequences", sequences, *(("--data", data) if data else ()))
    only = ("--no-noise-floor", "--no-trajectory", "--json")
    found = json.loads(_run("compare", *every, *options, *only))["comparisons"]
    figures = {
        each.name: (_bits(each), comparison["overall"]["kl_mean"], comparison["overall"]["kl_mean_se"])
        for each, comparison in zip(every, found, strict=True)
    }
    return [Row(name, figures[name], figures[f"{name}-bits"]) for name in names]


def table(found: Sequence[Row]) -> str:
    """Markdown, the smallest first."""
    lines = ["| scheme | bits | KL | bits, by measurement | KL | |", "|---|---|---|---|---|---|"]
    for row in sorted(found, key=lambda each: each.standard[0]):
        (bits, kl, error), (other_bits, other, other_error) = row.standard, row.measured
        lines.append(
            f"| {row.name} | {bits:.3f} | {kl:.5f} ± {error:.5f} "
            f"| {other_bits:.3f} | {other:.5f} ± {other_error:.5f} | {other / kl:.0%} |"
        )
    return "\n".join(lines)


def _bits(artifact: Path) -> float:
    manifest = Artifact.open(artifact).manifest
    return manifest.recipe.targets["cpu"].bits_per_weight(manifest.config)


def _run(*arguments: Any) -> str:
    command = [sys.executable, "-m", "dream_edge", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()

"""What each scheme costs a tiny network in task scores: the same held-out cases for all, compared in pairs.

    python benchmarks/tiny_tasks.py --cases 1000
    python benchmarks/tiny_tasks.py --cases 1000 --checkpoint tiny-blocks

Greedy, in the checkpoint's own order, the official schedule with one step a token: Sudoku 24 tokens, Countdown 32,
answers 48; sentences with one to four words masked are filled one word at a step, after bos. A block-causal network
does so block by block.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import dream_edge
from dream_edge.quality.measure.estimates import mcnemar
from dream_edge.tasks.scoring import Scores
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.format.recipe import SCHEMES, Recipe
from tools.tiny.tasks import SHORT, TASKS

ONE_TOKEN_A_STEP = {"exact": True, "temperature": 0.0, "steps": None, "reveal": None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="held-out cases of each task")
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--block-size", type=int, help="groups of the 4-bit matrices")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=SHORT)
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=SCHEMES, help="the first is compared with")
    options = parser.parse_args()
    tasks, first = {name: TASKS[name] for name in options.tasks}, options.schemes[0]
    checkpoint = Checkpoint.open(dream_edge.resolve_checkpoint(options.checkpoint))
    solved: dict[str, dict[str, Scores]] = {}
    print(f"{options.cases} held-out cases of each task; the same for every scheme\n")
    print("| scheme | MB | bits per weight | " + " | ".join(tasks) + " | seconds |")
    print("|---|---|---|" + "---|" * (len(tasks) + 1))
    with TemporaryDirectory() as directory:
        for scheme in options.schemes:
            recipe = Recipe.for_scheme(
                scheme,
                block_size=options.block_size if scheme in ("int4", "mixed", "nf4") else None,
                layers=checkpoint.config.num_hidden_layers,
            )
            artifact = export(checkpoint, Path(directory) / scheme, recipe)
            model = dream_edge.load(artifact.path)
            start = time.perf_counter()
            solved[scheme] = {name: task(model, options.cases, ONE_TOKEN_A_STEP) for name, task in tasks.items()}
            seconds = time.perf_counter() - start
            bits = recipe.targets["cpu"].bits_per_weight(checkpoint.config)
            cells = [score(solved[first][name], solved[scheme][name]) for name in tasks]
            print(
                f"| {scheme} | {artifact.size / 1e6:.1f} | {bits:.2f} | {' | '.join(cells)} | {seconds:.0f} |",
                flush=True,
            )
            del model  # its files are mapped; some systems do not remove mapped files
    print(f"\nIn brackets: points against {first}, and the p-value of the paired difference (exact McNemar test).")


def score(reference: Scores, scores: Scores) -> str:
    share = f"{scores.solved.mean():.1%}"
    if scores is reference:
        return share
    points = 100 * (scores.solved.mean() - reference.solved.mean())
    return f"{share} ({points:+.1f}, p = {mcnemar(reference.solved, scores.solved):.2f})"


if __name__ == "__main__":
    main()

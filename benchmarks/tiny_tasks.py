"""What each scheme costs the tiny Dream in task scores: the same held-out cases for all, compared in pairs.

    python benchmarks/tiny_tasks.py --cases 1000

Greedy, `entropy` order, the official schedule with one step a token: Sudoku 24 tokens, Countdown 32, answers 48;
sentences with one to four words masked are filled one word at a step, after bos.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

import dream_edge
from dream_edge.quality.tiny import messages_of
from dream_edge.tasks import countdown, questions, sentences, sudoku
from dream_edge_export.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.chat import chat_ids
from dream_edge_runtime.recipe import SCHEMES, Recipe

BATCH = 64
Solved = NDArray[np.bool_]


def solve_sudoku(model: dream_edge.DreamModel, count: int) -> Solved:
    cases = sudoku.generate(np.random.default_rng(1), count, held_out=True)
    texts = complete(model, [model.tokenizer.encode(case.prompt) for case in cases], 24)
    return np.array([sudoku.solves(case.prompt, text) for case, text in zip(cases, texts, strict=True)])


def solve_countdown(model: dream_edge.DreamModel, count: int) -> Solved:
    cases = countdown.generate(np.random.default_rng(2), count, held_out=True)
    texts = complete(model, [model.tokenizer.encode(case.prompt) for case in cases], 32)
    return np.array([countdown.solves(case.prompt, text) for case, text in zip(cases, texts, strict=True)])


def solve_questions(model: dream_edge.DreamModel, count: int) -> Solved:
    cases = questions.generate(np.random.default_rng(3), count, held_out=True)
    prompts = [chat_ids(model.tokenizer, messages_of(case.prompt)) for case in cases]
    texts = complete(model, prompts, 48)
    return np.array([questions.solves(case.prompt, text) for case, text in zip(cases, texts, strict=True)])


def solve_sentences(model: dream_edge.DreamModel, count: int) -> Solved:
    rng = np.random.default_rng(4)
    cases = sentences.generate(rng, count, held_out=True)
    templates = [with_holes(model, case.text, 1 + index % 4, rng) for index, case in enumerate(cases)]
    return np.array(
        [sentences.solves(model.fill(template, algorithm="entropy", bos=True).text) for template in templates]
    )


TASKS = {
    "Sudoku": solve_sudoku,
    "Countdown": solve_countdown,
    "sentences": solve_sentences,
    "questions": solve_questions,
}


def complete(model: dream_edge.DreamModel, prompts: Sequence[list[int]], new_tokens: int) -> list[str]:
    texts = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        results = model.generate_batch(batch, algorithm="entropy", temperature=0, max_new_tokens=new_tokens, steps=None)
        texts += [result.text for result in results]
    return texts


def with_holes(model: dream_edge.DreamModel, text: str, holes: int, rng: np.random.Generator) -> str:
    """`text` with so many of its words, drawn at random, replaced by holes of their size."""
    words = list(re.finditer(r" ?[A-Za-z]+", text))
    chosen = sorted(rng.choice(len(words), size=min(holes, len(words)), replace=False).tolist(), reverse=True)
    for index in chosen:
        word = words[index]
        text = f"{text[: word.start()]}[[{len(model.tokenizer.encode(word.group()))}]]{text[word.end() :]}"
    return text


def mcnemar(reference: Solved, other: Solved) -> float:
    """Two-sided exact p-value of the paired difference (binomial test on the cases that differ)."""
    better, worse = int((other & ~reference).sum()), int((reference & ~other).sum())
    differing = better + worse
    tail = sum(math.comb(differing, count) for count in range(min(better, worse) + 1))
    return min(1.0, 2.0 * tail / 2.0**differing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="held-out cases of each task")
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--block-size", type=int, help="groups of the 4-bit matrices")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    options = parser.parse_args()
    tasks = {name: TASKS[name] for name in options.tasks}
    checkpoint = Checkpoint.open(dream_edge.resolve_checkpoint(options.checkpoint))
    solved: dict[str, dict[str, Solved]] = {}
    print(f"{options.cases} held-out cases of each task; the same for every scheme\n")
    print("| scheme | MB | bits per weight | " + " | ".join(tasks) + " | seconds |")
    print("|---|---|---|" + "---|" * (len(tasks) + 1))
    with TemporaryDirectory() as directory:
        for scheme in SCHEMES:
            recipe = Recipe.for_scheme(
                scheme,
                block_size=options.block_size if scheme in ("int4", "mixed", "nf4") else None,
                layers=checkpoint.config.num_hidden_layers,
            )
            artifact = export(checkpoint, Path(directory) / scheme, recipe)
            model = dream_edge.load(artifact.path)
            start = time.perf_counter()
            solved[scheme] = {name: task(model, options.cases) for name, task in tasks.items()}
            seconds = time.perf_counter() - start
            bits = recipe.targets["cpu"].bits_per_weight(checkpoint.config)
            cells = [score(solved[SCHEMES[0]][name], solved[scheme][name]) for name in tasks]
            print(
                f"| {scheme} | {artifact.size / 1e6:.1f} | {bits:.2f} | {' | '.join(cells)} | {seconds:.0f} |",
                flush=True,
            )
            del model  # its files are mapped; some systems do not remove mapped files
    print(f"\nIn brackets: points against {SCHEMES[0]}, and the p-value of the paired difference (exact McNemar test).")


def score(reference: Solved, solved: Solved) -> str:
    share = f"{solved.mean():.1%}"
    if solved is reference:
        return share
    return f"{share} ({100 * (solved.mean() - reference.mean()):+.1f}, p = {mcnemar(reference, solved):.2f})"


if __name__ == "__main__":
    main()

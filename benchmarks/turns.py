"""What the turns of a conversation cost with a block-causal model, with and without what earlier turns have computed.

    python benchmarks/turns.py ARTIFACT [--turns 6] [--question 64] [--answer 32] [--threads N] [--json]

Questions are random tokens, answers what the model makes of them, to their full length: weights may be random too.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np

import dream_edge
from dream_edge_runtime.host import describe_machine


def talk(
    model: dream_edge.DreamModel, turns: int, question: int, answer: int
) -> tuple[list[dict[str, Any]], list[int]]:
    """What each turn was given, found and took, in seconds: to its first step, and in all. And all that was said."""
    rng, said, found = np.random.default_rng(0), list[int](), []
    for _ in range(turns):
        said += rng.integers(model.config.mask_token_id, size=question).tolist()
        start = time.perf_counter()
        denoising = model.stream(said, max_new_tokens=answer)
        next(denoising)
        first = time.perf_counter() - start
        result = denoising.result()
        said += result.token_ids
        given = {"given": result.prompt_tokens, "cached": result.cached_tokens, "passes": result.passes}
        found.append({**given, "first_step": first, "text": time.perf_counter() - start})
    return found, said


def measure(name: str, turns: int, question: int, answer: int, threads: int | None) -> dict[str, Any]:
    model = dream_edge.load(name, threads=threads)
    if model.prefixes is None:
        raise SystemExit(f"{name} is not block-causal: nothing is kept from one turn to the next.")
    model.generate([0], max_new_tokens=1)
    kept, said = talk(model, turns, question, answer)
    computed, again = talk(replace(model, prefixes=None), turns, question, answer)
    usage = model.prefixes.usage
    found = {"artifact": name, "machine": describe_machine(), "equal": said == again}
    return found | {"kept": kept, "computed": computed, "bytes": usage.nbytes, "blocks": usage.blocks}


def show(found: dict[str, Any]) -> None:
    print(f"{found['artifact']}; {found['machine']}\n")
    print("| turn | tokens given | found | first step: computed, kept | text: computed, kept |\n|---|---|---|---|---|")
    for turn, (kept, computed) in enumerate(zip(found["kept"], found["computed"], strict=True), 1):
        times = [f"{computed[name]:.2f} s, {kept[name]:.2f} s" for name in ("first_step", "text")]
        print(f"| {turn} | {kept['given']} | {kept['cached']} | {times[0]} | {times[1]} |")
    same = "The same tokens both ways" if found["equal"] else "Not the same tokens both ways"
    print(f"\n{same}; {found['bytes'] / 1e6:.1f} MB kept in {found['blocks']} blocks.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact")
    for name, default, help_ in (
        ("turns", 6, ""),
        ("question", 64, "tokens of each"),
        ("answer", 32, "tokens of each"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=help_)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = measure(options.artifact, options.turns, options.question, options.answer, options.threads)
    print(json.dumps(found)) if options.json else show(found)


if __name__ == "__main__":
    main()

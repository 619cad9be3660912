"""What a draft finds and mends, and what it harms.

    python benchmarks/drafts.py [--cases 200] [--artifact tiny] [--groups 2 4 8] [--bounds 0.3 0.1 0.03 0.01]

Held-out sentences and Sudoku grids of the tiny networks' tasks, in which words were swapped: one or two for any others,
one for another of its kind (was for were), one to three digits. Each is given as a `Draft`, and once as it was, right.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

import dream_edge
from dream_edge.tasks import sudoku
from dream_edge_runtime.model import DreamModel
from tools.tiny import sentences

KINDS = ("was were is are", "he she they it", "him her them", "his their", "the a an", "yesterday today tomorrow")


@dataclass(frozen=True)
class Case:
    """A text of tokens after another that stands, as it was and with some of them swapped."""

    before: str
    right: list[int]
    wrong: list[int]
    solves: Callable[[str], bool]


def alphabetic(model: DreamModel, ids: Sequence[int]) -> list[int]:
    """Places of whole words that a space precedes."""
    texts = [model.tokenizer.token_text(token) for token in ids]
    return [at for at, text in enumerate(texts) if text[0] == " " and text[1:].isalpha()]


def swap_words(model: DreamModel, count: int, *, alike: bool) -> list[Case]:
    rng, encode = np.random.default_rng(1), model.tokenizer.encode
    shown = [encode(case.text) for case in sentences.generate(np.random.default_rng(2), 500)]
    words = sorted({ids[at] for ids in shown for at in alphabetic(model, ids)})
    kinds = [[token for word in kind.split() for token in encode(f" {word}")[:1]] for kind in KINDS]
    cases: list[Case] = []
    while len(cases) < count:
        (drawn,) = sentences.generate(rng, 1, held_out=True)
        right = encode(drawn.text)
        choices = {
            at: next((kind for kind in kinds if right[at] in kind), []) if alike else words
            for at in alphabetic(model, right)
        }
        places = [at for at, among in choices.items() if among]
        wrong = [*right]
        for at in rng.permutation(places)[: 1 if alike else 1 + len(cases) % 2].tolist():
            wrong[at] = int(rng.choice([token for token in choices[at] if token != right[at]]))
        if not sentences.solves(model.tokenizer.decode(wrong)):
            cases.append(Case("", right, wrong, sentences.solves))
    return cases


def swap_digits(model: DreamModel, count: int) -> list[Case]:
    rng, encode = np.random.default_rng(3), model.tokenizer.encode
    cases = []
    for index, case in enumerate(sudoku.generate(rng, count, held_out=True)):
        right = encode(case.answer)
        wrong, digits = [*right], [encode(digit)[0] for digit in "1234"]
        for at in rng.permutation([at for at, token in enumerate(right) if token in digits])[: 1 + index % 3].tolist():
            wrong[at] = int(rng.choice([digit for digit in digits if digit != right[at]]))
        cases.append(Case(case.prompt, right, wrong, lambda text, prompt=case.prompt: sudoku.solves(prompt, text)))  # type: ignore[misc]
    return cases


def measure(model: DreamModel, cases: Sequence[Case], bound: float, groups: int) -> str:
    """A row: wrong tokens found, right ones changed, texts right again, as they were, and right ones left alone."""
    found = wrong = changed = right = mended = restored = untouched = passes = 0
    for case in cases:
        old, start = np.array(case.right), len(model.tokenizer.encode(case.before)) if case.before else 0
        given = np.array(case.wrong)
        results = []
        for ids in (case.wrong, case.right):
            draft = dream_edge.Draft(model.tokenizer.decode(ids), bound=bound, groups=groups)
            results.append(model.fill([case.before, draft], bos=not case.before))
        new = np.array(results[0].token_ids[start:])
        swapped = given != old
        found, wrong = found + int((swapped & (new != given)).sum()), wrong + int(swapped.sum())
        changed, right = changed + int((~swapped & (new != old)).sum()), right + int((~swapped).sum())
        mended += case.solves(results[0].holes[0])
        restored += bool((new == old).all())
        untouched += not results[1].changes
        passes += results[0].passes
    count = len(cases)
    shares = (found / wrong, changed / right, mended / count, restored / count, untouched / count)
    return " | ".join([*(f"{share:.1%}" for share in shares), f"{passes / count:.1f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", default="tiny")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--groups", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--bounds", type=float, nargs="+", default=[0.3, 0.1, 0.03, 0.01])
    options = parser.parse_args()
    model = dream_edge.load(options.artifact)
    sets = {
        "any word": swap_words(model, options.cases, alike=False),
        "a word of its kind": swap_words(model, options.cases, alike=True),
        "digits": swap_digits(model, options.cases),
    }
    print("swapped | groups | bound | wrong found | right changed | right again | as it was | right untouched | passes")
    for name, cases in sets.items():
        for groups in options.groups:
            for bound in options.bounds:
                print(f"{name} | {groups} | {bound} | {measure(model, cases, bound, groups)}", flush=True)


if __name__ == "__main__":
    main()

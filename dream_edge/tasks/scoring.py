"""How often a model solves the four tasks, and at what cost: held-out cases, the same for every model and setting."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dream_edge.quality.texts.tiny import messages_of
from dream_edge.tasks import countdown, questions, sentences, sudoku
from dream_edge_runtime.text.chat import chat_ids

if TYPE_CHECKING:
    from dream_edge_runtime.generation.results import Generation
    from dream_edge_runtime.model import DreamModel

BATCH = 64
"""Texts that are generated together. A text does not depend on its neighbours."""

Options = Mapping[str, Any]
"""Keywords of `DreamModel.generate`; how many tokens are new is the task's."""

Progress = Callable[[int], object]
"""Called with how many cases of a task are done."""


def _silent(_done: int) -> None:
    pass


@dataclass(frozen=True)
class Scores:
    """Of one task, case by case, in the order of the cases."""

    solved: NDArray[np.bool_]
    passes: NDArray[np.int64]
    """Forward passes that each text took."""
    tokens: NDArray[np.int64]
    """Tokens that each text keeps; what stands behind its end does not count."""

    @classmethod
    def of(cls, results: Sequence[Generation], solved: Sequence[bool]) -> Scores:
        return cls(
            np.array(solved, dtype=bool),
            np.array([result.passes for result in results]),
            np.array([result.new_tokens for result in results]),
        )


def solve_sudoku(model: DreamModel, count: int, options: Options, progress: Progress = _silent) -> Scores:
    """Grids of 4 × 4 with 4 to 12 blanks, in 24 tokens."""
    cases = sudoku.generate(np.random.default_rng(1), count, held_out=True)
    results = complete(model, [model.tokenizer.encode(case.prompt) for case in cases], 24, options, progress)
    return Scores.of(
        results, [sudoku.solves(case.prompt, each.text) for case, each in zip(cases, results, strict=True)]
    )


def solve_countdown(model: DreamModel, count: int, options: Options, progress: Progress = _silent) -> Scores:
    """Two equations of three numbers, in 32 tokens."""
    cases = countdown.generate(np.random.default_rng(2), count, held_out=True)
    results = complete(model, [model.tokenizer.encode(case.prompt) for case in cases], 32, options, progress)
    return Scores.of(
        results, [countdown.solves(case.prompt, each.text) for case, each in zip(cases, results, strict=True)]
    )


def solve_questions(model: DreamModel, count: int, options: Options, progress: Progress = _silent) -> Scores:
    """Answers of at most 48 tokens in conversations of one to three turns."""
    cases = questions.generate(np.random.default_rng(3), count, held_out=True)
    prompts = [chat_ids(model.tokenizer, messages_of(case.prompt)) for case in cases]
    results = complete(model, prompts, 48, options, progress)
    return Scores.of(
        results, [questions.solves(case.prompt, each.text) for case, each in zip(cases, results, strict=True)]
    )


def solve_sentences(model: DreamModel, count: int, options: Options, progress: Progress = _silent) -> Scores:
    """Sentences of which one to four words, anywhere, are to be found."""
    rng = np.random.default_rng(4)
    cases = sentences.generate(rng, count, held_out=True)
    templates = [with_holes(model, case.text, 1 + index % 4, rng) for index, case in enumerate(cases)]
    results = []
    for template in templates:
        results.append(model.fill(template, bos=True, **options))
        progress(len(results))
    return Scores.of(results, [sentences.solves(result.text) for result in results])


class Task(Protocol):
    """Has a model of these tasks solve so many cases, generating by `options`."""

    def __call__(self, model: DreamModel, count: int, options: Options, progress: Progress = ...) -> Scores: ...


TASKS: Mapping[str, Task] = {
    "Sudoku": solve_sudoku,
    "Countdown": solve_countdown,
    "sentences": solve_sentences,
    "questions": solve_questions,
}


def complete(
    model: DreamModel, prompts: Sequence[list[int]], new_tokens: int, options: Options, progress: Progress = _silent
) -> list[Generation]:
    """What follows each of `prompts` within `new_tokens` tokens. Those of like length share a batch: less padding."""
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    found: dict[int, Generation] = {}
    for start in range(0, len(prompts), BATCH):
        indices = by_length[start : start + BATCH]
        batch = model.generate_batch([prompts[index] for index in indices], **{"max_new_tokens": new_tokens, **options})
        found.update(zip(indices, batch, strict=True))
        progress(len(found))
    return [found[index] for index in range(len(prompts))]


def with_holes(model: DreamModel, text: str, holes: int, rng: np.random.Generator) -> str:
    """`text` with so many of its words, drawn at random, replaced by holes of their size."""
    words = list(re.finditer(r" ?[A-Za-z]+", text))
    chosen = sorted(rng.choice(len(words), size=min(holes, len(words)), replace=False).tolist(), reverse=True)
    for index in chosen:
        word = words[index]
        text = f"{text[: word.start()]}[[{len(model.tokenizer.encode(word.group()))}]]{text[word.end() :]}"
    return text


def mcnemar(reference: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Two-sided exact p-value of a paired difference (McNemar's test: binomial on the cases that differ)."""
    better, worse = int((other & ~reference).sum()), int((reference & ~other).sum())
    differing = better + worse
    tail: int = sum(math.comb(differing, count) for count in range(min(better, worse) + 1))
    return float(min(1.0, 2 * tail / 2**differing))  # whole numbers until the division: nothing overflows


def wilson(solved: int, cases: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson, JASA 22, 1927), which is no point even where all are solved."""
    z = 1.959963984540054
    share, weight = solved / cases, z * z / cases
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_error(reference: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Standard error of the difference of two shares of the same cases; 0 for a single one."""
    differences = other.astype(np.float64) - reference
    return float(differences.std(ddof=1) / math.sqrt(len(differences))) if len(differences) > 1 else 0.0

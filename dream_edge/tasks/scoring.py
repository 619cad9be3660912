"""How often a model solves a task, and at what cost: held-out cases, the same for every model and setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .asking import write_question
from .task import SHOTS, Case, Task

if TYPE_CHECKING:
    from dream_edge_runtime.generation.results import Generation
    from dream_edge_runtime.model import DreamModel

Options = Mapping[str, Any]
"""Keywords of `DreamModel.generate`; the task says how many tokens are new."""

OFFICIAL: Options = {"exact": True, "algorithm": "entropy", "temperature": 0.0, "seed": 0, "reveal": None}
"""The settings of Dream's own planning evaluation: the official loop, a step for each token, greedy."""

_BATCH = 64
_BATCH_TOKENS = 4096  # so that few-shot prompts of a large model do not take gigabytes


@dataclass(frozen=True)
class Scores:
    """Of one task, case by case, in the order of the cases.

    Attributes:
        solved: which cases were solved.
        passes: forward passes that each text took.
        tokens: tokens that each text keeps; what comes after its end does not count.
    """

    solved: NDArray[np.bool_]
    passes: NDArray[np.int64]
    tokens: NDArray[np.int64]

    @classmethod
    def of(cls, results: Sequence[Generation], solved: Sequence[bool]) -> Scores:
        return cls(
            np.array(solved, dtype=bool),
            np.array([result.passes for result in results]),
            np.array([result.new_tokens for result in results]),
        )


def solve(
    model: DreamModel,
    task: Task,
    count: int,
    *,
    shots: int = SHOTS,
    options: Options = OFFICIAL,
    together: bool = False,
    progress: Callable[[int], object] = lambda _done: None,
) -> Scores:
    """Have `model` solve the first `count` held-out cases of `task`.

    Args:
        shots: solved examples in each prompt; fewer where the model's context does not hold as many.
        options: how to generate, as keywords of `DreamModel.generate`.
        together: all cases in one batch, for a network that is read from the disk for every pass.
        progress: called with the number of cases done.
    """
    cases = task.generate(np.random.default_rng(task.seed), count, held_out=True)
    examples = fit_examples(model, task, cases, shots)
    prompts = [write_question(model.tokenizer, task, case, examples) for case in cases]
    results = complete(model, prompts, task.new_tokens, options, progress, together=together)
    return Scores.of(results, [task.solves(case.prompt, each.text) for case, each in zip(cases, results, strict=True)])


def fit_examples(model: DreamModel, task: Task, cases: Sequence[Case], shots: int, *, chat: bool = False) -> list[Case]:
    """The first `shots` examples of `task`, without those that the context does not hold before every question."""
    examples = task.draw_examples(shots)
    longest = max(cases, key=lambda case: len(case.prompt))
    room = model.config.context - task.new_tokens
    while examples and len(write_question(model.tokenizer, task, longest, examples, chat=chat)) > room:
        examples.pop()
    return examples


def complete(
    model: DreamModel,
    prompts: Sequence[list[int]],
    new_tokens: int,
    options: Options,
    progress: Callable[[int], object] = lambda _done: None,
    *,
    together: bool = False,
) -> list[Generation]:
    """What follows each of `prompts` within `new_tokens` tokens.

    Prompts of like length share a batch, which saves padding; a text does not depend on its neighbours.
    """
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    longest = max(map(len, prompts), default=0) + new_tokens
    size = max(1, len(prompts) if together else min(_BATCH, _BATCH_TOKENS // longest))
    found: dict[int, Generation] = {}
    for start in range(0, len(prompts), size):
        indices = by_length[start : start + size]
        batch = model.generate_batch([prompts[index] for index in indices], **{"max_new_tokens": new_tokens, **options})
        found.update(zip(indices, batch, strict=True))
        progress(len(found))
    return [found[index] for index in range(len(prompts))]

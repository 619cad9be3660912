"""Scores of the tasks."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import dream_edge
from dream_edge.tasks import SUDOKU, TASKS, Task
from dream_edge.tasks.scoring import OFFICIAL, fit_examples, solve

PROMPTS = {
    "sudoku": "Input:\n1000\n0002\n4003\n0000\nOutput:\n1234\n3412\n4123\n2341",
    "countdown": "Input: 15,44,79,50\nOutput: 44-15=29,79-29=50",
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_prompts_have_the_form_of_dreams_planning_evaluation(task: Task) -> None:
    """The published form: examples between empty lines, the question after the last."""
    cases = task.generate(np.random.default_rng(0), 1, held_out=True)
    instruction, *shown = task.write_prompt(cases[0], task.draw_examples(8)).split("\n\n")
    assert len(shown) == 9
    assert instruction == task.instruction
    assert "\n" not in instruction
    form = re.sub(r"\d+", "n", PROMPTS[task.name].partition("Output:")[0])
    for example in shown[:-1]:
        assert task.solves(example, re.split(r"Output:\s", example)[1])
        assert re.sub(r"\d+", "n", example.partition("Output:")[0]) == form
    assert shown[-1] == cases[0].prompt == task.write_prompt(cases[0])


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_examples_are_never_what_is_asked(task: Task) -> None:
    asked = {case.prompt for case in task.generate(np.random.default_rng(task.seed), 2000, held_out=True)}
    examples = task.draw_examples(8)
    assert examples[:3] == task.draw_examples(8)[:3]
    assert not asked & {example.prompt for example in examples}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_any_model_is_asked(task: Task, random_artifact: Path) -> None:
    done: list[int] = []
    scores = solve(dream_edge.load(random_artifact, threads=1), task, 3, shots=2, progress=done.append)
    assert done[-1] == 3
    assert (scores.passes > task.new_tokens // 2).all()
    assert not scores.solved.any()


def test_a_short_context_holds_fewer_examples(random_artifact: Path) -> None:
    model = dream_edge.load(random_artifact, threads=1)
    cases = SUDOKU.generate(np.random.default_rng(0), 2, held_out=True)
    length = len(model.tokenizer.encode(SUDOKU.write_prompt(cases[0], SUDOKU.draw_examples(8)[:3]))) + 24
    for context, examples in ((length, 3), (length - 1, 2), (100_000, 8)):
        config = replace(model.config, context=context, max_position_embeddings=100_000)
        shorter = replace(model, network=SimpleNamespace(config=config))
        assert fit_examples(shorter, SUDOKU, cases, 8) == SUDOKU.draw_examples(8)[:examples]


def test_tiny_solves_what_it_has_learnt_and_decoding_by_the_preset_takes_fewer_passes() -> None:
    model = dream_edge.load("tiny", threads=1)
    official, preset = (solve(model, SUDOKU, 8, shots=0, options=options) for options in (OFFICIAL, {}))
    assert official.solved.all()
    assert preset.solved.mean() > 0.7
    assert (preset.passes < official.passes).all()
    assert (preset.tokens > 0).all()

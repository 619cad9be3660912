"""The bundled block-causal network: trained weights, so that what is written block by block can be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dream_edge
from dream_edge.models import TINY, TINY_BLOCKS, bundled
from dream_edge.tasks import SUDOKU
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import chat_ids
from tools.tiny import questions, scores
from tools.tiny.tasks import TASKS
from tools.tiny.texts import messages_of

ONE_TOKEN_A_STEP: dict[str, Any] = {"exact": True, "temperature": 0.0, "reveal": None}
GOALS = {"Sudoku": 0.95, "sentences": 0.90, "questions": 0.95}


def load_exported(scheme: str, directory: Path) -> DreamModel:
    checkpoint = Checkpoint.open(bundled(TINY_BLOCKS))
    recipe = Recipe.for_scheme(scheme, layers=checkpoint.config.num_hidden_layers)
    return dream_edge.load(export(checkpoint, directory / scheme, recipe).path, threads=1)


def test_it_has_what_dream_has_not() -> None:
    config, dream = (Checkpoint.open(bundled(name)).config for name in (TINY_BLOCKS, TINY))
    assert (config.causal_block, config.shift, config.qk_norm, config.attention_bias) == (32, 0, True, False)
    assert config.head_dim * config.num_attention_heads != config.hidden_size
    assert (dream.causal_block, dream.shift, dream.qk_norm, dream.attention_bias) == (None, 1, False, True)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (bundled(TINY_BLOCKS) / name).read_bytes() == (bundled(TINY) / name).read_bytes()


def test_texts_are_those_of_full_passes_of_the_reference(tmp_path: Path) -> None:
    """The oracle computes everything again at each step: no cache, no graph."""
    rng = np.random.default_rng(5)
    puzzles = [case.prompt for case in SUDOKU.generate(rng, 6, held_out=True)]
    asked = [case.prompt for case in questions.generate(rng, 8, held_out=True)]
    model = load_exported("fp32", tmp_path)
    prompts = [model.tokenizer.encode(puzzle) for puzzle in puzzles]
    prompts += [chat_ids(model.tokenizer, messages_of(prompt)) for prompt in asked]
    texts = [model.generate(prompt, max_new_tokens=24, **ONE_TOKEN_A_STEP).text for prompt in prompts]
    oracle = scores.Scorer(*scores.load(bundled(TINY_BLOCKS))).complete([*puzzles, *asked], 24)
    assert texts == [text.removesuffix("<|im_end|>") for text in oracle]


@pytest.mark.parametrize(
    "options", [ONE_TOKEN_A_STEP, {}, {"exact": True}], ids=["one token a step", "default", "exact"]
)
@pytest.mark.parametrize("task", GOALS)
def test_it_has_learnt_its_tasks(task: str, options: dict[str, Any]) -> None:
    assert TASKS[task](dream_edge.load(TINY_BLOCKS, threads=1), 60, options).solved.mean() >= GOALS[task] - 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "lost"), [("fp32", 0.005), ("int8", 0.01), ("int4", 0.02)])
def test_it_solves_as_many_as_its_card_says(tmp_path: Path, scheme: str, lost: float) -> None:
    """But for a few, which depend on the processor."""
    model = load_exported(scheme, tmp_path)
    solved = {task: TASKS[task](model, 1000, ONE_TOKEN_A_STEP).solved.mean() for task in GOALS}
    assert all(solved[task] >= GOALS[task] - lost for task in GOALS), solved

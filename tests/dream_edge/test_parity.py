"""End to end against the official loop over the PyTorch reference, with the tiny Dream's real weights.

Given identical logits nothing may differ from the official loop in exact arithmetic. From the same loop in PyTorch's
own fp32, whose last bits depend on the processor, only ties may differ (`units_from_official`). Where ONNX Runtime
computes the logits, a difference is a tie if the reference prefers its choice by less than 1e-5. Each step is judged on
the runtime's own canvas, so that one tie does not bring others. Ties are counted, bounded, and reported as a property.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import dream_edge
from dream_edge.tasks import countdown, sudoku
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.reference.model import Dream, load_reference
from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.generation.canvas import Canvas, MaskedSequence
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.inference.network import Network
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import chat_ids
from support.loops import denoised
from support.networks import FakeNetwork
from support.official import EXACT, TIE, TORCH, UNIT, Arithmetic, Official, units_from_official

BETWEEN_NETWORKS = 1e-5 / UNIT
ALGORITHMS = ("maskgit_plus", "topk_margin", "entropy", "origin")
LENGTHS = (8, 24, 48)
MOST_TIES = 0.2
"""Of all steps."""


@pytest.fixture(scope="module")
def reference() -> Dream:
    return load_reference(Checkpoint.open(dream_edge.resolve_checkpoint("tiny"))).eval()


@pytest.fixture(scope="module")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> DreamModel:
    checkpoint = Checkpoint.open(dream_edge.resolve_checkpoint("tiny"))
    return dream_edge.load(export(checkpoint, tmp_path_factory.mktemp("fp32") / "out", Recipe.for_scheme("fp32")).path)


@pytest.fixture(scope="module")
def prompts(onnx_model: DreamModel) -> list[list[int]]:
    encode = onnx_model.tokenizer.encode
    rng = np.random.default_rng(7)
    return [
        encode(sudoku.generate(rng, 1)[0].prompt),
        encode(countdown.generate(rng, 1)[0].prompt),
        encode("The old man"),
        chat_ids(onnx_model.tokenizer, [{"role": "user", "content": "What sound does the dog make?"}]),
    ]


class Remembered:
    """The reference's logits for a canvas, computed once: to the runtime and to each oracle they are identical."""

    def __init__(self, reference: Dream) -> None:
        self.reference = reference
        self._logits: dict[bytes, torch.Tensor] = {}

    def __call__(self, ids: torch.Tensor, _valid: torch.Tensor | None) -> torch.Tensor:
        key = ids.numpy().tobytes()
        if key not in self._logits:
            with torch.inference_mode():
                self._logits[key] = self.reference(ids)
        return self._logits[key]


def begin(prompt: list[int], length: int, mask: int) -> IntArray:
    return np.array(prompt + [mask] * length)


def official(
    model: Remembered, alg: str, start: IntArray, arithmetic: Arithmetic, given: list[IntArray] | None = None
) -> Official:
    """The oracle after as many steps as there are masks in `start`, on the canvases `given` before each step."""
    mask = model.reference.config.mask_token_id
    oracle = Official(mask_token_id=mask, steps=int((start == mask).sum()), alg=alg, arithmetic=arithmetic)
    canvases = None if given is None else [torch.from_numpy(canvas)[None] for canvas in given]
    draws = np.random.default_rng(0)
    with torch.inference_mode():
        oracle.sample(
            model, torch.from_numpy(start)[None], None, lambda count: torch.from_numpy(draws.random(count)), canvases
        )
    return oracle


def ours(network: Network, alg: str, start: IntArray) -> list[IntArray]:
    """The canvas after every step of the runtime; it ends when nothing is masked, the oracle goes on unchanged.

    At temperature 0 the only draws are those of origin's positions, and they do not depend on the logits.
    """
    config, mask = GenerationConfig(algorithm=alg, temperature=0), network.config.mask_token_id
    length = int((start == mask).sum())
    sequence = MaskedSequence.of([start[:-length].tolist(), length], mask)
    canvas = Canvas([sequence], mask, network.config.pad_token_id, shift=1)
    found = [canvas.ids[0].copy() for _ in denoised(network, canvas, config, [np.random.default_rng(0)])]
    return found + found[-1:] * (length - len(found))


def count_ties(model: Remembered, alg: str, start: IntArray, canvases: list[IntArray], limit: float) -> int:
    """At how many steps PyTorch's own arithmetic chooses otherwise than `canvases`, none by more than `limit` units."""
    oracle = official(model, alg, start, TORCH, [start, *canvases[:-1]])
    ties = 0
    for step, (choice, mine) in enumerate(zip(oracle.choices, canvases, strict=True)):
        if choice.after[0].tolist() != mine.tolist():
            mask = model.reference.config.mask_token_id
            assert units_from_official(choice, torch.from_numpy(mine)[None], mask) <= limit, f"step {step}"
            ties += 1
    return ties


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_identical_logits_give_identical_canvases_at_every_step(
    alg: str,
    length: int,
    reference: Dream,
    prompts: list[list[int]],
    record_property: Callable[[str, object], None],
) -> None:
    model, ties = Remembered(reference), 0
    for prompt in prompts:
        start = begin(prompt, length, reference.config.mask_token_id)
        found = ours(FakeNetwork(reference.config, model), alg, start)
        expected = official(model, alg, start, EXACT).history
        for step, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            assert mine.tolist() == theirs[0].tolist(), f"step {step}"
        ties += count_ties(model, alg, start, found, TIE)
    record_property("ties", ties)
    assert ties <= MOST_TIES * length * len(prompts)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_end_to_end_only_ties_differ(
    alg: str,
    length: int,
    reference: Dream,
    onnx_model: DreamModel,
    prompts: list[list[int]],
    record_property: Callable[[str, object], None],
) -> None:
    model, ties = Remembered(reference), 0
    for prompt in prompts:
        start = begin(prompt, length, reference.config.mask_token_id)
        ties += count_ties(model, alg, start, ours(onnx_model.network, alg, start), BETWEEN_NETWORKS)
    record_property("ties", ties)
    assert ties <= MOST_TIES * length * len(prompts)

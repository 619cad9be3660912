"""End to end against the official loop over the PyTorch reference, with the tiny Dream's real weights.

Given identical logits nothing may differ. With ONNX Runtime computing them, a difference is excused only where the
reference itself hardly prefers its choice (a gap below 1e-5); such ties are counted, and reported as a property.
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
from dream_edge_runtime.generation.canvas import Canvas, Draft
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.text.chat import chat_ids
from support.loops import denoised
from support.networks import FakeNetwork
from support.official import Official

TIE = 1e-5
ALGORITHMS = ("maskgit_plus", "topk_margin", "entropy")
LENGTHS = (8, 24, 48)


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


def official(reference: Dream, alg: str, prompt: list[int], new: int, uniform: object = None) -> list[IntArray]:
    """The canvas after every step of the oracle, for as many steps as new tokens."""
    mask = reference.config.mask_token_id
    oracle = Official(mask_token_id=mask, steps=new, alg=alg)
    with torch.inference_mode():
        oracle.sample(reference, torch.tensor([prompt + [mask] * new]), None, uniform)  # type: ignore[arg-type]
    return [canvas[0].numpy() for canvas in oracle.history]


def ours(model: DreamModel, alg: str, prompt: list[int], new: int) -> list[IntArray]:
    """The same from the runtime; it ends when nothing is masked, the oracle goes on without changing anything."""
    result = model.generate(prompt, GenerationConfig(algorithm=alg, max_new_tokens=new, temperature=0), history=True)
    history = list(result.history or ())
    return history + history[-1:] * (new - len(history))


@pytest.mark.parametrize("length", [*LENGTHS[:-1], pytest.param(LENGTHS[-1], marks=pytest.mark.slow)])
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_identical_logits_give_identical_canvases_at_every_step(
    alg: str, length: int, reference: Dream, onnx_model: DreamModel, prompts: list[list[int]]
) -> None:
    model = DreamModel(FakeNetwork(reference.config, reference), onnx_model.tokenizer)
    for prompt in prompts:
        expected = official(reference, alg, prompt, length)
        for step, (mine, theirs) in enumerate(zip(ours(model, alg, prompt, length), expected, strict=True)):
            assert mine.tolist() == theirs.tolist(), f"step {step}"


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
    ties = 0
    for prompt in prompts:
        before = np.array(prompt + [reference.config.mask_token_id] * length)
        pairs = zip(ours(onnx_model, alg, prompt, length), official(reference, alg, prompt, length), strict=True)
        for mine, theirs in pairs:
            if mine.tolist() != theirs.tolist():
                assert preference(reference, alg, before, mine, theirs) < TIE
                ties += 1
                break  # from here on the two are different texts
            before = theirs
    record_property("ties", ties)


@pytest.mark.parametrize("length", LENGTHS)
def test_origin_agrees_given_the_same_uniform_draws(
    length: int, reference: Dream, onnx_model: DreamModel, prompts: list[list[int]]
) -> None:
    """At temperature 0 the only draws are those of the positions, and they do not depend on the logits."""
    for seed, prompt in enumerate(prompts):
        shared = np.random.default_rng(seed)
        expected = official(reference, "origin", prompt, length, lambda n: torch.from_numpy(shared.random(n)))  # noqa: B023
        config = GenerationConfig(algorithm="origin", temperature=0)
        draft = Draft.of([prompt, length], reference.config.mask_token_id)
        canvas = Canvas([draft], reference.config.mask_token_id, reference.config.pad_token_id, shift=1)
        for _ in denoised(onnx_model.network, canvas, config, [np.random.default_rng(seed)]):
            pass
        assert canvas.ids[0].tolist() == expected[-1].tolist()


def preference(reference: Dream, alg: str, before: IntArray, mine: IntArray, theirs: IntArray) -> float:
    """By how much the reference, at canvas `before`, prefers its choice to ours: in confidence, or in probability."""
    with torch.inference_mode():
        logits = reference(torch.from_numpy(before)[None])[0]
    probs = torch.cat([logits[:1], logits[:-1]]).softmax(-1)
    best = probs.sort(-1, descending=True).values
    confidence = {
        "maskgit_plus": best[:, 0],
        "topk_margin": best[:, 0] - best[:, 1],
        "entropy": (probs * (probs + 1e-10).log()).sum(-1),
    }[alg]
    both = (mine != before) & (theirs != before)
    gaps = [
        float(probs[place, theirs[place]] - probs[place, mine[place]])
        for place in np.flatnonzero(both & (mine != theirs)).tolist()
    ]
    only_theirs = np.flatnonzero((theirs != before) & (mine == before)).tolist()
    only_mine = np.flatnonzero((mine != before) & (theirs == before)).tolist()
    gaps += [float(confidence[a] - confidence[b]) for a, b in zip(only_theirs, only_mine, strict=True)]
    return max(gaps)

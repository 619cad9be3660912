"""Trajectories of block-causal networks: block by block, as their decoder writes, and judged by what it sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dream_edge.quality.texts.read import Passage
from dream_edge.quality.trajectory.agreement import along
from dream_edge.quality.trajectory.path import official
from dream_edge.quality.trajectory.record import pass_count, record, replay
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.checkpoint.tensor_file import TensorFile
from dream_edge_export.export import export
from dream_edge_export.reference.model import Dream, load_reference
from dream_edge_export.reference.networks import ReferenceNetwork
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.generation.config import SAMPLERS, GenerationConfig
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.model import DreamModel
from support.checkpoints import random_weights, write_weights
from support.family import FAMILY, qwen, qwen_logits, write_family_checkpoint

BLOCK = 8
OPENINGS = [(21, 5), (30, 16), (12, 1), (26, 10)]
"""Length of a canvas, and where its masks begin."""


@pytest.fixture(scope="module", params=["Fast_dLLM_v2_7B", "DreamReasoner-8B"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """One that never proposes the mask, which would settle nothing."""
    directory = tmp_path_factory.mktemp("checkpoint")
    config = write_family_checkpoint(directory, **FAMILY[request.param]).config
    weights = random_weights(config)
    weights["lm_head.weight"][config.mask_token_id] = 0
    write_weights(directory, weights)
    file = TensorFile.open(directory / "model.safetensors")
    return Checkpoint(directory, config, {}, dict.fromkeys(file.entries, file), {})


def open_canvases(seed: int = 0) -> list[Passage]:
    rng = np.random.default_rng(seed)
    return [Passage(rng.integers(300, size=length), start) for length, start in OPENINGS]


def settings(steps: int | None = None, **options: Any) -> GenerationConfig:
    """As of a checkpoint that was published with a threshold, which the official loop has not."""
    defaults = GenerationConfig(**{**SAMPLERS["block_diffusion"], **options})
    return official(defaults, algorithm="maskgit_plus", steps=steps)


@pytest.mark.parametrize("align", ["prompt", "answer"])
@pytest.mark.parametrize("steps", [None, 3])
def test_it_is_what_the_decoder_writes(checkpoint: Checkpoint, tmp_path: Path, steps: int | None, align: str) -> None:
    """Recorded in one batch, without a cache; written by the artifact, which keeps finished blocks."""
    artifact = export(checkpoint, tmp_path / "fp32", Recipe.for_scheme("fp32"))
    config, begun = settings(steps, align=align), open_canvases()
    found = record(ReferenceNetwork(load_reference(checkpoint)), begun, config)
    model = DreamModel(OnnxNetwork(artifact, threads=1), artifact.tokenizer())
    for path, each in zip(found.paths, begun, strict=True):
        prompt = each.ids[: each.start].tolist()
        written = model.generate(prompt, config.replace(max_new_tokens=each.maskable), history=True)
        assert path.final.tolist() == [*prompt, *written.token_ids]
        assert written.history is not None
        made = int(path.steps.max()) + 1
        assert made == len(written.history) == found.steps(path) if steps is None else made <= found.steps(path)
        offset = -each.start % BLOCK if align == "answer" else 0
        blocks = (path.positions + offset) // BLOCK
        assert (np.diff(blocks[np.argsort(path.steps, kind="stable")]) >= 0).all()
    most = pass_count(config, begun, checkpoint.config)
    longest = max(int(path.steps.max()) + 1 for path in found.paths)
    assert most == longest if steps is None else longest <= most <= 3 * longest


def test_flips_are_what_the_other_network_would_have_settled(checkpoint: Checkpoint) -> None:
    """By transformers, on each canvas of the path: which position it is surest of in the block, and of which token."""
    other = Dream(checkpoint.config)
    other.load_state_dict(load_reference(checkpoint).state_dict())
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in other.parameters():
            weights.add_(0.3 * weights.std(correction=0) * torch.randn(weights.shape, generator=noise))
    oracle, shift, mask = qwen(other.eval()), checkpoint.config.shift, checkpoint.config.mask_token_id
    reference = record(ReferenceNetwork(load_reference(checkpoint)), open_canvases(), settings())
    found = replay(ReferenceNetwork(other), reference)
    for path, judged in zip(reference.paths, found, strict=True):
        order = np.argsort(path.steps)
        for index in order.tolist():
            position, canvas = int(path.positions[index]), path.canvas(int(path.steps[index]))
            masked = np.flatnonzero(canvas == mask)
            begin = int(masked[0]) // BLOCK * BLOCK
            alone = shift and masked[0] == begin
            inside = [at for at in masked.tolist() if at < begin + (1 if alone else BLOCK)]
            ids = torch.from_numpy(canvas)[None]
            logits = qwen_logits(oracle, ids, torch.ones_like(ids, dtype=torch.bool), BLOCK)[0]
            probs = logits[[max(0, at - shift) for at in inside]].softmax(-1)
            assert position in inside
            at = inside.index(position)
            assert judged.other_token[index] == (int(probs[at].argmax()) != path.tokens[index])
            assert judged.other_position is not None
            assert judged.other_position[index] == (int(probs.max(-1).values.argmax()) != at)
    assert 0 < np.concatenate([each.other_token for each in found]).mean() < 1
    assert 0 < np.concatenate([each.other_position for each in found if each.other_position is not None]).mean() < 1


@pytest.mark.parametrize("steps", [None, 2])
def test_every_commitment_is_in_a_part_of_the_steps(checkpoint: Checkpoint, tmp_path: Path, steps: int | None) -> None:
    """The steps of a configuration are those of a block: a text of several blocks has more."""
    tokenizer = export(checkpoint, tmp_path / "fp32", Recipe.for_scheme("fp32")).tokenizer()
    network = ReferenceNetwork(load_reference(checkpoint))
    found = record(network, open_canvases(), settings(steps))
    figures = along(found, replay(network, found), found, tokenizer, checkpoint.config.eos_token_id)
    commitments = sum(len(path.steps) for path in found.paths)
    assert figures.flips.token.count == commitments == sum(length - start for length, start in OPENINGS)
    assert sum(part.flips.token.count for part in figures.by_step) == commitments
    assert figures.flips.any.value == 0
    assert figures.free_run.same_texts.value == 1

"""The reference decodes like any other network, and to the text of the artifact that keeps its weights."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dream_edge import load
from dream_edge.models import TINY, bundled
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.reference.model import load_reference
from dream_edge_export.reference.networks import LayerwiseNetwork, ReferenceNetwork
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.generation.config import Alignment
from dream_edge_runtime.generation.options import Options
from support.family import FAMILY, write_family_checkpoint
from support.remembering import Snapshot


@pytest.fixture(scope="module")
def network() -> ReferenceNetwork:
    return ReferenceNetwork(load_reference(Checkpoint.open(bundled(TINY))))


def test_decodes_to_the_text_of_the_fp32_artifact(network: ReferenceNetwork, tmp_path: Path) -> None:
    artifact = export(Checkpoint.open(bundled(TINY)), tmp_path / "fp32", Recipe.for_scheme("fp32"))
    model = load(artifact.path)
    questions = ["What is the capital of France?", "How many legs does a spider have?"]
    asked = {"max_new_tokens": 24, "exact": True}
    texts = [model.generate(question, **asked).text for question in questions]  # type: ignore[arg-type]
    reference = replace(model, network=network)
    assert [reference.generate(question, **asked).text for question in questions] == texts  # type: ignore[arg-type]
    assert all(texts)


@pytest.mark.parametrize("align", ["prompt", "answer"])
@pytest.mark.parametrize("name", ["Fast_dLLM_v2_1.5B", "bd3lm-Qwen3-0.6B"])
def test_block_causal_networks_decode_as_their_fp32_artifacts(name: str, align: Alignment, tmp_path: Path) -> None:
    """The artifact keeps finished blocks; the references keep nothing, and compute a batch of texts together."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", **FAMILY[name])
    artifact = load(export(checkpoint, tmp_path / "fp32", Recipe.for_scheme("fp32")).path)
    prompts = [[int(token) for token in np.random.default_rng(size).integers(300, size=size)] for size in (5, 21, 8)]
    asked: Options = {"max_new_tokens": 19, "algorithm": "maskgit_plus", "steps": 8, "align": align}
    texts = [generation.token_ids for generation in artifact.generate_batch(prompts, **asked)]
    assert len({*texts}) == 3
    for network in (ReferenceNetwork(load_reference(checkpoint)), LayerwiseNetwork(checkpoint)):
        found = replace(artifact, network=network).generate_batch(prompts, **asked)
        assert [generation.token_ids for generation in found] == texts
        assert {generation.cached_tokens for generation in found} == {0}


def test_stops_when_cancelled_and_refuses_what_it_does_not_remember(network: ReferenceNetwork) -> None:
    ids, rows = np.ones((1, 3), np.int64), np.array([1])
    whole = (ids, np.arange(3)[None], np.ones((1, 1, 3), np.bool_), rows, 0.0)
    cancel = threading.Event()
    assert network.forward(*whole, cancel).count == 1
    cancel.set()
    with pytest.raises(Cancelled):
        network.forward(*whole, cancel)
    with pytest.raises(TypeError, match="cache"):
        network.forward(*whole, past=Snapshot(np.ones(1, np.int64), np.ones(1, np.int64)))

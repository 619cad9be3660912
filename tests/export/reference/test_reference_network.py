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
from dream_edge_export.reference.networks import ReferenceNetwork
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.format.recipe import Recipe
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

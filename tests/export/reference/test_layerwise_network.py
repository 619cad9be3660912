"""The reference read anew for every pass decodes as the one in memory."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference.model import load_reference
from dream_edge_export.reference.networks import LayerwiseNetwork, ReferenceNetwork
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.inference.network import attended_keys
from support.checkpoints import BLOCK_CAUSAL, write_checkpoint
from support.remembering import Snapshot


@pytest.fixture(scope="module", params=[{}, {**BLOCK_CAUSAL, "block_size": 4}], ids=["full", "block-causal"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory: Path = tmp_path_factory.mktemp("streamed")
    write_checkpoint(directory, **request.param)
    return Checkpoint.open(directory)


@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_rows_are_those_of_the_network_in_memory(checkpoint: Checkpoint, temperature: float, offset: int) -> None:
    """Sequences of 9, 4 and 6 tokens, padded on the left; of the second, its first row is asked for.

    Blocks begin with the first token, or `offset` before it.
    """
    rng = np.random.default_rng(0)
    valid = np.arange(9) >= 9 - np.array([[9], [4], [6]])
    ids = np.where(valid, rng.integers(400, size=(3, 9)), checkpoint.config.pad_token_id)
    positions = np.maximum(valid.cumsum(1) - 1, 0)
    rows = np.array([0, 3, 8, 9 + 5, 9 + 8, 18 + 7])
    mask = attended_keys(checkpoint.config, positions + offset, positions + offset, valid)
    reference = load_reference(checkpoint)
    held = ReferenceNetwork(reference).forward(ids, positions, mask, rows, temperature)
    streamed = LayerwiseNetwork(checkpoint).forward(ids, positions, mask, rows, temperature)
    block = checkpoint.config.causal_block or 100
    for row, (sequence, place) in enumerate(zip(*np.divmod(rows, 9), strict=True)):
        real = ids[sequence, valid[sequence]]
        places = range(offset, offset + len(real))
        seen = torch.tensor([[key // block <= query // block for key in places] for query in places])
        alone = reference.model(torch.from_numpy(real)[None], mask=seen)[0, place - 9 + len(real)]
        np.testing.assert_allclose(held.fetch_logits()[row], reference.lm_head(alone), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(streamed.top_ids[:, 0], held.top_ids[:, 0])
    for name in ("top_logits", "top_probs", "log_normalizer", "neg_entropy"):
        np.testing.assert_allclose(getattr(streamed, name), getattr(held, name), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(streamed.fetch_logits(), held.fetch_logits(), rtol=1e-4, atol=1e-4)


def test_stops_when_cancelled_and_refuses_what_it_does_not_remember(checkpoint: Checkpoint) -> None:
    network, cancel = LayerwiseNetwork(checkpoint), threading.Event()
    whole = (np.ones((1, 3), np.int64), np.arange(3)[None], np.ones((1, 1, 3), np.bool_), np.array([1]), 0.0)
    cancel.set()
    with pytest.raises(Cancelled):
        network.forward(*whole, cancel)
    with pytest.raises(TypeError, match="cache"):
        network.forward(*whole, past=Snapshot(np.ones(1, np.int64), np.ones(1, np.int64)))

"""The network in pieces is the network: against the one that is loaded whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.errors import NonFiniteWeights
from dream_edge_export.reference import layerwise
from dream_edge_export.reference.model import Layer, load_reference
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD
from support.checkpoints import random_weights, write_checkpoint, write_weights

GEOMETRIES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16_in_shards": {"dtype": torch.bfloat16, "shards": 3},
    "tied": {"tie_word_embeddings": True},
    "ratio_of_7b": {"hidden_size": 112, "intermediate_size": 592, "num_attention_heads": 7, "num_key_value_heads": 1},
    "other_constants": {"rope_theta": 10000.0, "rms_norm_eps": 1e-3, "hidden_size": 96, "num_attention_heads": 6},
}


def streamed(checkpoint: Checkpoint, ids: torch.Tensor) -> torch.Tensor:
    (batch,) = layerwise.make_batches([ids[0].numpy()], checkpoint.config, pad=False)
    hidden = layerwise.embed(checkpoint, batch.ids)
    for index in range(checkpoint.config.num_hidden_layers):
        hidden = batch.apply(layerwise.load_layer(checkpoint, index), hidden)
    return layerwise.compute_logits(checkpoint, layerwise.normalize(checkpoint, hidden)[0])


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_pieces_give_the_bits_of_the_whole(tmp_path: Path, geometry: dict[str, Any]) -> None:
    config = write_checkpoint(tmp_path, **geometry)
    checkpoint = Checkpoint.open(tmp_path)
    ids = torch.randint(config.vocab_size, (1, 33), generator=torch.Generator().manual_seed(1))
    assert torch.equal(streamed(checkpoint, ids), load_reference(checkpoint)(ids)[0])


def test_lm_head_in_slices_gives_the_logits_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices that do not divide the vocabulary; a product of another shape may add up in another order."""
    config = write_checkpoint(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    monkeypatch.setattr(layerwise, "LARGEST_SLICE", 4 * config.hidden_size * 100)
    ids = torch.arange(40)[None]
    torch.testing.assert_close(streamed(checkpoint, ids), load_reference(checkpoint)(ids)[0], atol=1e-5, rtol=0)


def test_one_layer_and_the_asked_rows_are_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_checkpoint(tmp_path, num_hidden_layers=3)
    checkpoint = Checkpoint.open(tmp_path)
    read: list[str] = []
    tensor, rows = Checkpoint.tensor, Checkpoint.rows

    def noted_tensor(self: Checkpoint, name: str) -> torch.Tensor:
        read.append(name)
        return tensor(self, name)

    def noted_rows(self: Checkpoint, name: str, start: int, stop: int) -> torch.Tensor:
        read.append(f"{name} {start, stop}")
        return rows(self, name, start, stop)

    monkeypatch.setattr(Checkpoint, "tensor", noted_tensor)
    monkeypatch.setattr(Checkpoint, "rows", noted_rows)
    layerwise.embed(checkpoint, torch.tensor([[7, 3, 7]]))
    assert read == [f"{EMBEDDING}.weight (3, 4)", f"{EMBEDDING}.weight (7, 8)"]
    read.clear()
    assert isinstance(layerwise.load_layer(checkpoint, 1), Layer)
    assert len(read) == 12
    assert all(name.startswith("model.layers.1.") for name in read)
    read.clear()
    layerwise.compute_logits(checkpoint, torch.zeros(1, config.hidden_size))
    assert read == [f"{LM_HEAD}.weight (0, {config.vocab_size})"]


def test_weights_are_fp32_and_without_gradients(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, dtype=torch.bfloat16)
    layer = layerwise.load_layer(Checkpoint.open(tmp_path), 1)
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    weights = random_weights(config)
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = torch.nan
    write_weights(tmp_path, weights)
    checkpoint = Checkpoint.open(tmp_path)
    layerwise.load_layer(checkpoint, 0)
    with pytest.raises(NonFiniteWeights, match=r"layers\.1\.mlp\.up_proj"):
        layerwise.load_layer(checkpoint, 1)

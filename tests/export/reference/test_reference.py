"""The reference against transformers' Qwen2 and Qwen3 under a mask of four dimensions: same weights, same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference.model import Dream, load_reference, shift
from dream_edge_runtime.format.model_config import ModelConfig
from support.checkpoints import write_checkpoint
from support.family import FAMILY, FULL_WIDTH, qwen, qwen_logits, write_family_checkpoint

GEOMETRIES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "one_kv_head": {"num_attention_heads": 8, "num_key_value_heads": 1},
    "no_grouping": {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 1},
    "ratio_of_7b": {"hidden_size": 112, "intermediate_size": 592, "num_attention_heads": 7, "num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True, "num_hidden_layers": 3},
    "other_constants": {"rope_theta": 10000.0, "rms_norm_eps": 1e-3, "hidden_size": 96, "num_attention_heads": 6},
}


def reference(directory: Path, **geometry: Any) -> tuple[ModelConfig, Dream]:
    config = write_checkpoint(directory, **geometry)
    return config, load_reference(Checkpoint.open(directory))


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_reference_equals_qwen2_with_full_mask(tmp_path: Path, geometry: dict[str, Any]) -> None:
    config, network = reference(tmp_path, **geometry)
    ids = torch.randint(config.vocab_size, (2, 33), generator=torch.Generator().manual_seed(1))
    expected = qwen_logits(qwen(network), ids, torch.ones_like(ids, dtype=torch.bool))
    torch.testing.assert_close(network(ids), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_reference_equals_qwen2_under_left_padding(tmp_path: Path, geometry: dict[str, Any]) -> None:
    config, network = reference(tmp_path, **geometry)
    ids = torch.randint(config.vocab_size, (3, 21), generator=torch.Generator().manual_seed(2))
    valid = torch.arange(21) >= torch.tensor([[0], [5], [20]])
    expected = qwen_logits(qwen(network), ids, valid)
    torch.testing.assert_close(network(ids, valid)[valid], expected[valid], atol=1e-5, rtol=0)


@pytest.mark.parametrize("facts", [*FAMILY.values(), *FULL_WIDTH.values()], ids=[*FAMILY, *FULL_WIDTH])
def test_every_form_equals_qwen_under_its_mask(tmp_path: Path, facts: dict[str, Any]) -> None:
    """Lengths that end inside a block, on its edge and in the first one; padding on the left, which moves blocks."""
    network = load_reference(write_family_checkpoint(tmp_path, **facts))
    config, valid = network.config, torch.arange(21) >= torch.tensor([[0], [5], [18]])
    ids = torch.randint(config.vocab_size, valid.shape, generator=torch.Generator().manual_seed(5))
    expected = qwen_logits(qwen(network), ids, valid, config.causal_block)
    torch.testing.assert_close(network(ids, valid)[valid], expected[valid], atol=2e-5, rtol=0)


def test_blocks_see_none_that_come_after_them(tmp_path: Path) -> None:
    network = load_reference(write_family_checkpoint(tmp_path, **FAMILY["bd3lm-Qwen3-0.6B"]))
    ids = torch.randint(network.config.vocab_size, (1, 20), generator=torch.Generator().manual_seed(6))
    other = ids.clone()
    other[0, 15] += 1
    changed = (network(ids) - network(other))[0].abs().amax(dim=-1) > 1e-4
    assert changed.tolist() == [False] * 8 + [True] * 12


def test_padding_changes_no_real_token(tmp_path: Path) -> None:
    config, network = reference(tmp_path)
    ids = torch.randint(config.vocab_size, (1, 12), generator=torch.Generator().manual_seed(3))
    padded = torch.cat([torch.full((1, 4), config.pad_token_id), ids], dim=1)
    torch.testing.assert_close(network(padded, torch.arange(16)[None] >= 4)[:, 4:], network(ids), atol=1e-5, rtol=0)


def test_attention_looks_both_ways(tmp_path: Path) -> None:
    config, network = reference(tmp_path)
    ids = torch.randint(config.vocab_size, (1, 12), generator=torch.Generator().manual_seed(4))
    other = ids.clone()
    other[0, -1] = (other[0, -1] + 1) % config.vocab_size
    assert (network(ids)[0, 0] - network(other)[0, 0]).abs().max() > 1e-3


def test_shift_moves_each_row_to_the_position_it_predicts() -> None:
    logits = torch.arange(5.0)[None, :, None]
    assert shift(logits, 1)[0, :, 0].tolist() == [0, 0, 1, 2, 3]
    assert shift(logits, 0)[0, :, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_computed_in_fp32(tmp_path: Path, dtype: torch.dtype) -> None:
    config = write_checkpoint(tmp_path, dtype=dtype, shards=3)
    checkpoint = Checkpoint.open(tmp_path)
    network = load_reference(checkpoint)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert all(torch.equal(value, checkpoint.tensor(name).float()) for name, value in network.state_dict().items())
    assert network(torch.arange(config.vocab_size)[None, :8]).dtype == torch.float32

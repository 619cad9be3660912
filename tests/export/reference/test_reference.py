"""The reference against transformers' Qwen2 with a full attention mask: same weights, same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference.model import Dream, load_reference, shift
from dream_edge_runtime.format.model_config import ModelConfig
from support.checkpoints import write_checkpoint

GEOMETRIES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "one_kv_head": {"num_attention_heads": 8, "num_key_value_heads": 1},
    "no_grouping": {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 1},
    "ratio_of_7b": {"hidden_size": 112, "intermediate_size": 592, "num_attention_heads": 7, "num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True, "num_hidden_layers": 3},
    "other_constants": {"rope_theta": 10000.0, "rms_norm_eps": 1e-3, "hidden_size": 96, "num_attention_heads": 6},
}


def qwen2(network: Dream) -> Qwen2ForCausalLM:
    config = network.config
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            max_position_embeddings=config.max_position_embeddings,
            rms_norm_eps=config.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tie_word_embeddings,
            hidden_act="silu",
            use_sliding_window=False,
        )
    )
    model.load_state_dict(network.state_dict(), strict=True)
    model.set_attn_implementation("eager")
    model.train(False)
    return model


def oracle_logits(model: Qwen2ForCausalLM, ids: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Qwen2 with every row attending to every valid column, positions counted from the first valid token."""
    columns = torch.where(valid[:, None, None, :], 0.0, torch.finfo(torch.float32).min)
    mask = columns.expand(-1, 1, ids.shape[1], -1)
    positions = (valid.long().cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    return logits


def reference(directory: Path, **geometry: Any) -> tuple[ModelConfig, Dream]:
    config = write_checkpoint(directory, **geometry)
    return config, load_reference(Checkpoint.open(directory))


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_reference_equals_qwen2_with_full_mask(tmp_path: Path, geometry: dict[str, Any]) -> None:
    config, network = reference(tmp_path, **geometry)
    ids = torch.randint(config.vocab_size, (2, 33), generator=torch.Generator().manual_seed(1))
    expected = oracle_logits(qwen2(network), ids, torch.ones_like(ids, dtype=torch.bool))
    torch.testing.assert_close(network(ids), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_reference_equals_qwen2_under_left_padding(tmp_path: Path, geometry: dict[str, Any]) -> None:
    config, network = reference(tmp_path, **geometry)
    ids = torch.randint(config.vocab_size, (3, 21), generator=torch.Generator().manual_seed(2))
    valid = torch.arange(21) >= torch.tensor([[0], [5], [20]])
    expected = oracle_logits(qwen2(network), ids, valid)
    torch.testing.assert_close(network(ids, valid)[valid], expected[valid], atol=1e-5, rtol=0)


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
    assert shift(logits)[0, :, 0].tolist() == [0, 0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_computed_in_fp32(tmp_path: Path, dtype: torch.dtype) -> None:
    config = write_checkpoint(tmp_path, dtype=dtype, shards=3)
    checkpoint = Checkpoint.open(tmp_path)
    network = load_reference(checkpoint)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert all(torch.equal(value, checkpoint.tensor(name).float()) for name, value in network.state_dict().items())
    assert network(torch.arange(config.vocab_size)[None, :8]).dtype == torch.float32

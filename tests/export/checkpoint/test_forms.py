"""config.json: every field is required, checked, and named when it is wrong."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dream_edge_export.checkpoint.config import read_checkpoint_config
from dream_edge_export.checkpoint.forms import StatedFacts, parse_config
from dream_edge_runtime.errors import CheckpointNotFound, DreamEdgeError, InvalidConfig, InvalidOption, UnreadableFile
from dream_edge_runtime.files.json import parse_json_object
from dream_edge_runtime.format.model_config import ModelConfig
from support.checkpoints import BLOCK_CAUSAL, config_dict

DERIVED = ("expand_token_id", "context", "shift", "head_dim", "attention_bias", "qk_norm", "causal_block")
NAMES = [field.name for field in fields(ModelConfig) if field.name not in DERIVED]
DREAM_7B: dict[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
    "mask_token_id": 151666,
    "pad_token_id": 151643,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
}


def test_geometry_of_the_7b() -> None:
    config = parse_config(config_dict(**DREAM_7B))
    assert (config.head_dim, config.kv_size) == (128, 512)
    assert config.rope_theta == 1e6
    assert ModelConfig(**config.to_dict()) == config


def test_logits_are_shifted_and_all_positions_usable_where_nothing_else_is_said() -> None:
    config = parse_config(config_dict(shift=0, context=7))  # names of ours, not of config.json
    assert (config.shift, config.context, config.expand_token_id) == (1, 512, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shift", 2),
        ("shift", -1),
        ("shift", True),
        ("shift", None),
        ("attention_bias", 1),
        ("qk_norm", None),
        ("causal_block", 0),
        ("causal_block", 513),
        ("causal_block", 32.0),
        ("head_dim", None),
        ("head_dim", 15),
        ("context", 0),
        ("context", 513),
        ("context", None),
        ("context", 64.0),
        ("expand_token_id", 448),
        ("expand_token_id", -1),
        ("expand_token_id", "5"),
    ],
)
def test_wrong_value_of_a_manifest_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidConfig, match=field):
        ModelConfig(**{**parse_config(config_dict()).to_dict(), field: value})


def test_rope_theta_is_found_where_transformers_5_writes_it() -> None:
    raw = config_dict(rope_parameters={"rope_theta": 500000.0, "rope_type": "default"})
    del raw["rope_theta"], raw["rope_scaling"]
    assert parse_config(raw).rope_theta == 500000.0
    raw["rope_parameters"]["rope_type"] = "yarn"
    with pytest.raises(InvalidConfig, match="rope_parameters"):
        parse_config(raw)


@pytest.mark.parametrize("name", [*NAMES, "model_type", "architectures"])
def test_missing_field_is_named_not_guessed(name: str) -> None:
    raw = config_dict()
    del raw[name]
    with pytest.raises(InvalidConfig, match=name):
        parse_config(raw)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, "4", [], {}, -1, float("nan"), float("inf"), 10**400, "\ud800" * 999])
def test_wrong_value_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidConfig, match=name) as caught:
        parse_config(config_dict() | {name: value})
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"vocab_size": True}, "vocab_size"),
        ({"hidden_size": 64.0}, "hidden_size"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"hidden_size": 66}, "not divisible by num_attention_heads"),
        ({"hidden_size": 60}, "odd"),
        ({"num_key_value_heads": 3}, "not divisible by num_key_value_heads"),
        ({"num_key_value_heads": 8}, "not divisible by num_key_value_heads"),
        ({"num_hidden_layers": 1 << 20}, "num_hidden_layers"),
        ({"vocab_size": 1 << 40}, "vocab_size"),
        ({"mask_token_id": 448}, "mask_token_id"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"rope_theta": 1}, "rope_theta"),
        ({"tie_word_embeddings": 0}, "tie_word_embeddings"),
        ({"head_dim": 32}, "head_dim"),
        ({"model_type": "qwen2"}, "model_type"),
        ({"model_type": ["Dream"]}, "model_type"),
        ({"architectures": ["LLaDAModelLM"]}, "architectures"),
        ({"architectures": "DreamModel"}, "architectures"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling"),
        ({"use_sliding_window": True}, "use_sliding_window"),
    ],
)
def test_inconsistency_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidConfig, match=named):
        parse_config(config_dict(**change))


DREAM3 = {**BLOCK_CAUSAL, "num_attention_heads": 4}
"""Dream's second form, as DreamReasoner has it."""


def form(architecture: str, model_type: str, **fields: Any) -> dict[str, Any]:
    return config_dict(architectures=[architecture], model_type=model_type, **fields)


@pytest.mark.parametrize(
    ("raw", "stated", "facts"),  # facts: shift, biases, norms, block, head size
    [
        (config_dict(), {}, (1, True, False, None, 16)),
        (config_dict(**DREAM3), {}, (0, False, True, 8, 24)),
        (form("CoDALanguageModel", "CoDA", head_dim=32), {}, (1, False, True, None, 32)),
        (form("Fast_dLLM_QwenForCausalLM", "Fast_dLLM_Qwen", bd_size=32), {}, (1, True, False, 32, 16)),
        (form("A2DQwen2LMHeadModel", "a2d-qwen2"), {"attention": "full"}, (0, True, False, None, 16)),
        (form("A2DQwen3LMHeadModel", "a2d-qwen3"), {"attention": "block-causal:32"}, (0, False, True, 32, 16)),
        (form("Qwen2ForCausalLM", "qwen2"), {"attention": "full", "shift": 1}, (1, True, False, None, 16)),
        (form("Qwen3ForCausalLM", "qwen3"), {"attention": "block-causal:4", "shift": 0}, (0, False, True, 4, 16)),
    ],
)
def test_form_follows_from_the_architecture_and_what_is_stated(
    raw: dict[str, Any], stated: dict[str, Any], facts: tuple[object, ...]
) -> None:
    config = parse_config(raw, stated=StatedFacts(**stated))
    found = (config.shift, config.attention_bias, config.qk_norm, config.causal_block, config.head_dim)
    assert found == facts


A2D = form("A2DQwen3LMHeadModel", "a2d-qwen3")
QWEN2 = form("Qwen2ForCausalLM", "qwen2")
FULL = {"attention": "full"}
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "unknown architecture": (config_dict(architectures=["LLaDAModelLM"]), {}, "expected one of ['A2DQwen2LMHeadModel'"),
    "model type of another": (config_dict(**DREAM3, model_type="CoDA"), {}, "model_type is 'CoDA', expected Dream"),
    "no block size": (config_dict(**{**DREAM3, "block_size": None}), {}, "block_size is missing"),
    "block size of a text": (config_dict(**{**DREAM3, "block_size": "32"}), {}, "block_size is '32', expected"),
    "block size 0": (config_dict(**{**DREAM3, "block_size": 0}), {}, "block_size is 0, expected 1 to"),
    "block beyond all positions": (
        config_dict(**{**DREAM3, "block_size": 513}),
        {},
        "block_size is 513, expected 1",
    ),
    "no sub-blocks": (form("Fast_dLLM_QwenForCausalLM", "Fast_dLLM_Qwen"), {}, "bd_size is missing"),
    "bias under norms": (config_dict(**{**DREAM3, "attention_bias": True}), {}, "o_proj would have one too"),
    "odd heads": (config_dict(**{**DREAM3, "head_dim": 15}), {}, "head_dim is 15, which is odd"),
    "absurd heads": (config_dict(**{**DREAM3, "head_dim": 1 << 24}), {}, "head_dim is 16777216, expected 1 to"),
    "heads of a size of their own": (config_dict(head_dim=32), {}, "not hidden_size / num_attention_heads"),
    "open attention": (
        A2D,
        {},
        "--attention full or, for one that writes in blocks of 32, --attention b",
    ),
    "open shift": (QWEN2, FULL, "--shift 1 or --shift 0"),
    "sliding window": (config_dict(**DREAM3, use_sliding_window=True), {}, "use_sliding_window is set"),
    "sliding layers": (config_dict(**DREAM3, layer_types=["sliding_attention"]), {}, "'sliding_attention', only 'full"),
    "scaled positions": (config_dict(**DREAM3, rope_scaling={"type": "yarn"}), {}, "rope_scaling is set"),
    "no mask": ({**A2D, "mask_token_id": 448}, FULL, "mask_token_id is 448, outside the vocabulary of 448"),
    "stated attention contradicts": (
        config_dict(**DREAM3),
        FULL,
        "contradicts the checkpoint, whose attention is",
    ),
    "stated shift contradicts": (config_dict(), {"shift": 0}, "contradicts the checkpoint, whose is 1: leave it out"),
    "stated block beyond": (A2D, {"attention": "block-causal:513"}, "causal_block is 513, expected 1 to"),
    "no such attention": (A2D, {"attention": "causal"}, "must be full, or block-causal: and the size of a block"),
    "no such shift": (QWEN2, {"shift": 2}, "shift must be 0 or 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_form_is_one_line_that_names_field_and_remedy(name: str) -> None:
    raw, stated, expected = WRONG[name]
    with pytest.raises((InvalidConfig, InvalidOption)) as caught:
        parse_config(raw, stated=StatedFacts(**stated))
    message = str(caught.value)
    assert expected in message
    assert message.isprintable()


def test_missing_mask_names_the_option() -> None:
    raw = {**A2D}
    del raw["mask_token_id"]
    with pytest.raises(InvalidConfig, match="mask_token_id is missing: name the token with --mask-token"):
        parse_config(raw, stated=StatedFacts(attention="full"))


def test_all_problems_are_named_at_once() -> None:
    raw = config_dict(hidden_size="64", model_type="llama", rope_theta=None)
    del raw["vocab_size"]
    with pytest.raises(InvalidConfig) as caught:
        parse_config(raw)
    assert len(caught.value.problems) == 4, caught.value.problems


def test_integers_serve_as_numbers() -> None:
    config = parse_config(config_dict(rope_theta=10000))
    assert isinstance(config.rope_theta, float)


def test_configuration_is_immutable() -> None:
    config = parse_config(config_dict())
    with pytest.raises(AttributeError):
        config.vocab_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"deep": {"a": 1, "a": 2}}',
        b"\xff\xfe\x00",
        b"[" * 100000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b" " * (1 << 20) + b"{}",
    ],
)
def test_file_that_is_not_one_object_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match=r"config\.json"):
        read_checkpoint_config(tmp_path)


def test_absent_file_and_directory_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointNotFound, match=r"config\.json"):
            read_checkpoint_config(directory)


def test_file_reads_as_the_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_dict()), encoding="utf-8")
    assert read_checkpoint_config(tmp_path) == parse_config(config_dict())


def test_lone_surrogates_make_a_clear_error() -> None:
    raw = parse_json_object(b'{"model_type": "\\ud800", "\\ud800": 1}')
    with pytest.raises(DreamEdgeError) as caught:
        parse_config(raw)
    str(caught.value).encode()

"""config.json: every field is required, checked, and named when it is wrong."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dream_edge_runtime.errors import CheckpointNotFound, DreamEdgeError, InvalidConfig, UnreadableFile
from dream_edge_runtime.files.json import parse_json_object
from dream_edge_runtime.format.model_config import ModelConfig
from support.checkpoints import config_dict

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
    config = ModelConfig.from_dict(config_dict(**DREAM_7B))
    assert (config.head_dim, config.kv_size) == (128, 512)
    assert config.rope_theta == 1e6
    assert ModelConfig(**config.to_dict()) == config


def test_logits_are_shifted_and_all_positions_usable_where_nothing_else_is_said() -> None:
    config = ModelConfig.from_dict(config_dict(shift=0, context=7))  # names of ours, not of config.json
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
        ModelConfig(**{**ModelConfig.from_dict(config_dict()).to_dict(), field: value})


def test_rope_theta_is_found_where_transformers_5_writes_it() -> None:
    raw = config_dict(rope_parameters={"rope_theta": 500000.0, "rope_type": "default"})
    del raw["rope_theta"], raw["rope_scaling"]
    assert ModelConfig.from_dict(raw).rope_theta == 500000.0
    raw["rope_parameters"]["rope_type"] = "yarn"
    with pytest.raises(InvalidConfig, match="rope_parameters"):
        ModelConfig.from_dict(raw)


@pytest.mark.parametrize("name", [*NAMES, "model_type", "architectures"])
def test_missing_field_is_named_not_guessed(name: str) -> None:
    raw = config_dict()
    del raw[name]
    with pytest.raises(InvalidConfig, match=name):
        ModelConfig.from_dict(raw)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, "4", [], {}, -1, float("nan"), float("inf"), 10**400, "\ud800" * 999])
def test_wrong_value_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidConfig, match=name) as caught:
        ModelConfig.from_dict(config_dict() | {name: value})
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
        ({"architectures": ["Qwen2ForCausalLM"]}, "architectures"),
        ({"architectures": "DreamModel"}, "architectures"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling"),
        ({"use_sliding_window": True}, "use_sliding_window"),
    ],
)
def test_inconsistency_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidConfig, match=named):
        ModelConfig.from_dict(config_dict(**change))


def test_all_problems_are_named_at_once() -> None:
    raw = config_dict(hidden_size="64", model_type="llama", rope_theta=None)
    del raw["vocab_size"]
    with pytest.raises(InvalidConfig) as caught:
        ModelConfig.from_dict(raw)
    assert len(caught.value.problems) == 4, caught.value.problems


def test_integers_serve_as_numbers() -> None:
    config = ModelConfig.from_dict(config_dict(rope_theta=10000))
    assert isinstance(config.rope_theta, float)


def test_configuration_is_immutable() -> None:
    config = ModelConfig.from_dict(config_dict())
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
        ModelConfig.read(path)


def test_absent_file_and_directory_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    for path in (tmp_path / "config.json", tmp_path / "nowhere" / "config.json"):
        with pytest.raises(CheckpointNotFound, match=r"config\.json"):
            ModelConfig.read(path)


def test_file_reads_as_the_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config_dict()), encoding="utf-8")
    assert ModelConfig.read(path) == ModelConfig.from_dict(config_dict())


def test_lone_surrogates_make_a_clear_error() -> None:
    raw = parse_json_object(b'{"model_type": "\\ud800", "\\ud800": 1}')
    with pytest.raises(DreamEdgeError) as caught:
        ModelConfig.from_dict(raw)
    str(caught.value).encode()

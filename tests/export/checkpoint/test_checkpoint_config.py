"""What a checkpoint's files say together: ids that config.json leaves out, the expand token, the context."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dream_edge_export.checkpoint.config import read_checkpoint_config
from dream_edge_export.checkpoint.forms import parse_config
from dream_edge_runtime.errors import CheckpointNotFound, InvalidConfig, UnreadableFile
from support.checkpoints import config_dict
from support.vocabulary import special_ids

IDS = special_ids()
END, MASK = IDS["eos_token_id"], IDS["mask_token_id"]


def write(directory: Path, name: str, value: object) -> None:
    (directory / name).write_text(json.dumps(value), encoding="utf-8")


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in config_dict().items() if name not in names}


def test_config_json_alone_suffices(tmp_path: Path) -> None:
    write(tmp_path, "config.json", config_dict())
    assert read_checkpoint_config(tmp_path) == parse_config(config_dict())


@pytest.mark.parametrize("raw", [without("mask_token_id", "pad_token_id"), config_dict(mask_token_id=None)])
def test_ids_that_config_json_lacks_are_those_of_the_tokenizers_roles(tmp_path: Path, raw: dict[str, Any]) -> None:
    write(tmp_path, "config.json", raw)
    decoder = {str(END): {"content": "<|endoftext|>"}, str(MASK): {"content": "<|mask|>"}}
    write(tmp_path, "tokenizer_config.json", {"added_tokens_decoder": decoder, "mask_token": "<|mask|>"})
    write(tmp_path, "special_tokens_map.json", {"pad_token": {"content": "<|endoftext|>", "lstrip": False}})
    config = read_checkpoint_config(tmp_path)
    assert (config.mask_token_id, config.pad_token_id) == (MASK, END)


def test_generation_config_names_an_id_before_the_tokenizer_does(tmp_path: Path) -> None:
    write(tmp_path, "config.json", without("bos_token_id"))
    write(tmp_path, "generation_config.json", {"bos_token_id": 7, "mask_token_id": None})
    write(tmp_path, "added_tokens.json", {"<|endoftext|>": END})
    write(tmp_path, "tokenizer_config.json", {"bos_token": "<|endoftext|>"})
    assert read_checkpoint_config(tmp_path).bos_token_id == 7


def test_config_json_is_believed_where_the_files_disagree(tmp_path: Path) -> None:
    """As in DiffuCoder, whose tokenizer pads with a token of its own."""
    write(tmp_path, "config.json", config_dict())
    write(tmp_path, "added_tokens.json", {"<|dlm_pad|>": 9})
    write(tmp_path, "tokenizer_config.json", {"pad_token": "<|dlm_pad|>"})
    config = read_checkpoint_config(tmp_path)
    assert (config.pad_token_id, config.expand_token_id) == (END, None)


def test_an_id_that_nobody_names_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "config.json", without("mask_token_id"))
    write(tmp_path, "generation_config.json", {"mask_token_id": None})
    with pytest.raises(InvalidConfig, match="mask_token_id is missing"):
        read_checkpoint_config(tmp_path)


EXPAND: dict[str, Callable[[Path], None]] = {
    "tokenizer_config": lambda path: write(
        path, "tokenizer_config.json", {"added_tokens_decoder": {"5": {"content": "<|expand|>"}}}
    ),
    "added_tokens": lambda path: write(path, "added_tokens.json", {"<|expand|>": 5}),
    "tokenizer": lambda path: write(path, "tokenizer.json", {"added_tokens": [{"id": 5, "content": "<|expand|>"}]}),
}


@pytest.mark.parametrize("write_token", EXPAND.values(), ids=EXPAND)
def test_expand_token_is_found_by_its_name(tmp_path: Path, write_token: Callable[[Path], None]) -> None:
    write(tmp_path, "config.json", config_dict())
    write_token(tmp_path)
    assert read_checkpoint_config(tmp_path).expand_token_id == 5


@pytest.mark.parametrize(
    ("stated", "context"), [(100, 100), (512, 512), (131072, 512), (10**30, 512), (0, 512), (None, 512), ("8", 512)]
)
def test_context_is_the_shorter_of_what_is_stated(tmp_path: Path, stated: object, context: int) -> None:
    write(tmp_path, "config.json", config_dict())
    write(tmp_path, "tokenizer_config.json", {"model_max_length": stated})
    config = read_checkpoint_config(tmp_path)
    assert (config.context, config.max_position_embeddings) == (context, 512)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenizer_config.json", {"added_tokens_decoder": []}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": 1, "5": 2, "6": {"content": 3}, "9" * 5000: "a"}}),
        ("tokenizer_config.json", {"mask_token": 3}),
        ("added_tokens.json", {"<|expand|>": "five", "<|mask|>": -1}),
        ("tokenizer.json", {"added_tokens": 3}),
        ("tokenizer.json", {"added_tokens": [3, {"id": 5}]}),
    ],
)
def test_nonsense_beside_config_json_is_left_to_the_tokenizers_check(tmp_path: Path, name: str, value: object) -> None:
    write(tmp_path, "config.json", config_dict())
    write(tmp_path, name, value)
    assert read_checkpoint_config(tmp_path) == parse_config(config_dict())


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound):
        read_checkpoint_config(tmp_path)
    write(tmp_path, "config.json", config_dict())
    (tmp_path / "tokenizer_config.json").write_text("{", "utf-8")
    with pytest.raises(UnreadableFile, match=r"tokenizer_config\.json"):
        read_checkpoint_config(tmp_path)

"""What a checkpoint says of itself: config.json first, then the files beside it for what config.json leaves out.

The published checkpoints of this architecture differ in what they state where (docs/relatives.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dream_edge_runtime.format.model_config import IDS, ModelConfig, read_json_object

EXPAND = "<|expand|>"
"""DreamOn's token; its id is another token's in other checkpoints, so it is always found by its name."""

_LARGEST_FILE = 1 << 26


def read_checkpoint_config(directory: Path) -> ModelConfig:
    """The configuration of the checkpoint in `directory`.

    An id that config.json lacks, or has as null, is taken from generation_config.json, or else from the token that the
    tokenizer's files name for that role. `expand_token_id` is that of the added token `EXPAND`. `context` is the
    tokenizer's model_max_length where that is below max_position_embeddings.

    Raises:
        CheckpointNotFound: there is no config.json.
        UnreadableFile: one of the files is damaged.
        InvalidConfig: they do not describe a Dream network.
    """
    path = directory / "config.json"
    raw = read_json_object(path)
    settings = _object(directory / "tokenizer_config.json")
    added = dict(_added_tokens(directory, settings))
    absent = [name for name in IDS if raw.get(name) is None]
    if absent:
        generation = _object(directory / "generation_config.json")
        roles = {**settings, **_object(directory / "special_tokens_map.json")}
        for name in absent:
            found = generation.get(name)
            found = added.get(_content(roles.get(name.removesuffix("_id")))) if found is None else found
            if found is not None:
                raw[name] = found
    if raw.get("expand_token_id") is None:
        raw["expand_token_id"] = added.get(EXPAND)
    config = ModelConfig.from_dict(raw, path)
    stated = settings.get("model_max_length")
    if type(stated) is int and 0 < stated < config.context:  # transformers writes 1e30 where it knows none
        config = replace(config, context=stated)
    return config


def _added_tokens(directory: Path, settings: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Contents and ids. Entries that make no sense are left out here: converting the tokenizer names them."""
    decoder = settings.get("added_tokens_decoder")
    tokens: list[tuple[str, Any]]
    if isinstance(decoder, dict):
        short = ((index, token) for index, token in decoder.items() if index.isdecimal() and len(index) < 10)
        tokens = [(_content(token), int(index)) for index, token in short]
    elif (directory / "added_tokens.json").is_file():
        tokens = list(_object(directory / "added_tokens.json").items())
    else:
        listed = _object(directory / "tokenizer.json").get("added_tokens")
        described = [token for token in listed if isinstance(token, dict)] if isinstance(listed, list) else []
        tokens = [(_content(token), token.get("id")) for token in described]
    yield from ((content, index) for content, index in tokens if content and type(index) is int)


def _content(token: object) -> str:
    """A token's text: files hold the text itself or an object that describes it."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`, empty where there is no file."""
    return read_json_object(file, limit=_LARGEST_FILE) if file.is_file() else {}

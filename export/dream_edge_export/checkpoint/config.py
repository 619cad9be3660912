"""The configuration of a checkpoint: config.json first, then the files beside it for what config.json leaves out.

The published checkpoints of this architecture differ in what they state where (docs/relatives.md).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from dream_edge_runtime.artifact import CARD
from dream_edge_runtime.errors import InvalidConfig, InvalidOption
from dream_edge_runtime.files.json import canonical_json, describe, parse_canonical, read_json_object
from dream_edge_runtime.format.model_config import IDS, ModelConfig
from dream_edge_runtime.generation.config import SAMPLERS, GenerationConfig
from dream_edge_runtime.text.tokenizer import LARGEST_FILE

from .forms import FORMS, NOTHING_STATED, StatedFacts, find_architecture, parse_config

EXPAND = "<|expand|>"
"""DreamOn's token; its id is another token's in other checkpoints, so it is always found by its name."""
GENERATION_CONFIG = "generation_config.json"
_MOST_GENERATION = 1 << 15  # bytes of it in a manifest
_log = logging.getLogger(__name__)


def read_checkpoint_config(directory: Path, stated: StatedFacts = NOTHING_STATED) -> ModelConfig:
    """The configuration of the checkpoint in `directory`, in which `stated` is what its files leave open.

    An id that config.json lacks, or has as null, is taken from generation_config.json, or else from the token that the
    tokenizer's files name for that role; a mask also by the name that the architecture's code has for it. Of several
    ends of the text, one is `eos_token_id`: that which also pads, or else the first; `read_generation_defaults` has
    all. `expand_token_id` is that of the added token `EXPAND`. `context` is the tokenizer's model_max_length where that
    is below max_position_embeddings.

    Raises:
        CheckpointNotFound: there is no config.json.
        UnreadableFile: one of the files is damaged.
        InvalidConfig: they do not describe a network of the family.
        InvalidOption: `stated` contradicts them, or names no token.
    """
    path = directory / "config.json"
    raw = read_json_object(path)
    settings = read_object(directory / "tokenizer_config.json")
    # entries that make no sense are skipped here: converting the tokenizer names them
    listed = ((content_of(token), as_token_id(index)) for index, token in list_added_tokens(directory, settings))
    added = {content: index for content, index in listed if content and index is not None}
    absent = [name for name in IDS if raw.get(name) is None]
    if absent:
        generation = read_object(directory / GENERATION_CONFIG)
        roles = {**settings, **read_object(directory / "special_tokens_map.json")}
        for name in absent:
            found = generation.get(name)
            found = added.get(content_of(roles.get(name.removesuffix("_id")))) if found is None else found
            if found is not None:
                raw[name] = found
    if isinstance(ends := raw.get("eos_token_id"), list) and ends:
        raw["eos_token_id"] = raw.get("pad_token_id") if raw.get("pad_token_id") in ends else ends[0]
    if raw.get("expand_token_id") is None:
        raw["expand_token_id"] = added.get(EXPAND)
    form = FORMS.get(find_architecture(raw))
    if form and raw.get("mask_token_id") is None and form.mask_token in added:
        raw["mask_token_id"] = added[form.mask_token]
    if stated.mask_token is not None:
        raw["mask_token_id"] = _find_mask(raw, added, stated.mask_token)
    config = parse_config(raw, path, stated)
    longest = settings.get("model_max_length")
    if type(longest) is int and 0 < longest < config.context:  # transformers writes 1e30 where it knows none
        config = replace(config, context=longest)
    return config


def _find_mask(raw: Mapping[str, Any], added: Mapping[str, int], token: str) -> int:
    if token not in added:
        raise InvalidOption(
            "mask_token", token, f"is none of the tokens that this checkpoint adds: {', '.join(sorted(added)[-8:])}"
        )
    if raw.get("mask_token_id") not in (None, added[token]):
        wrong = f"contradicts the checkpoint, whose mask_token_id is {describe(raw['mask_token_id'])}: leave it out"
        raise InvalidOption("mask_token", token, wrong)
    return added[token]


def read_generation_defaults(directory: Path) -> dict[str, Any]:
    """generation_config.json without what no manifest can hold, and what no runtime can use, which a warning names.

    Where config.json lists several ends of the text, so does this. `sampler` is the loop that its architecture was
    published with, where several of one form differ in theirs.
    """
    file, kept, size = directory / GENERATION_CONFIG, dict[str, Any](), 0
    config = read_object(directory / "config.json")
    form, stated = FORMS.get(find_architecture(config)), read_object(file)
    if isinstance(ends := config.get("eos_token_id"), list):
        stated |= {"eos_token_id": ends}
    if form and form.sampler:
        stated |= {"sampler": form.sampler}
    elif stated.get("sampler") not in (None, *SAMPLERS):
        _log.warning(
            "%s: left out, so that the default holds: there is no sampler %s", file, describe(stated.pop("sampler"))
        )
    for name, value in stated.items():
        try:
            GenerationConfig.from_checkpoint({name: value}, file)
        except InvalidConfig as error:
            _log.warning("%s: left out, so that the default holds: %s", file, "; ".join(error.problems))
            continue
        with suppress(ValueError, RecursionError):
            parse_canonical(held := canonical_json({"generation": {name: value}}))
            size += len(held)
            if size <= _MOST_GENERATION:
                kept[name] = value
    return kept


def read_licence(checkpoint_dir: Path) -> str | None:
    """The licence that the checkpoint's model card names in its metadata block."""
    try:
        card = (checkpoint_dir / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    metadata = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    found = re.search(r"^license:[ \t]*[\"']?([\w.\-]{1,200})", metadata.group(1), re.MULTILINE) if metadata else None
    return found.group(1) if found else None


def list_added_tokens(directory: Path, settings: Mapping[str, Any]) -> list[tuple[object, object]]:
    """Ids and tokens as they stand, unchecked: of `added_tokens_decoder` in the tokenizer_config.json `settings`, or
    else of tokenizer.json; and of added_tokens.json."""
    decoder, tokens = settings.get("added_tokens_decoder"), list[tuple[object, object]]()
    if isinstance(decoder, dict):
        tokens += decoder.items()
    else:
        listed = read_object(directory / "tokenizer.json").get("added_tokens")
        described = listed if isinstance(listed, list) else []
        tokens += [(token.get("id") if isinstance(token, dict) else None, token) for token in described]
    tokens += [(index, content) for content, index in read_object(directory / "added_tokens.json").items()]
    return tokens


def as_token_id(index: object) -> int | None:
    """The id that a file states as a number or as digits; None for anything else."""
    if isinstance(index, str) and index.isascii() and index.isdecimal() and len(index) < 10:
        return int(index)
    return index if type(index) is int and index >= 0 else None


def content_of(token: object) -> str:
    """A token's text: files hold the text itself or an object that describes it."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`, empty where there is no file."""
    return read_json_object(file, limit=LARGEST_FILE) if file.is_file() else {}

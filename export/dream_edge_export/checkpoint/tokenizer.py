"""The tokenizer files of a checkpoint, in whatever form they ship, become one tokenizer.json.

Dream's own tokenizer is remote code over Qwen2's vocab.json and merges.txt. The code is never run: its pipeline is
known (`PIPELINE`), so only the vocabulary, the merges and the added tokens are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dream_edge_runtime.errors import CorruptArtifact, UnreadableFile
from dream_edge_runtime.format.model_config import IDS, ModelConfig
from dream_edge_runtime.text.tokenizer import BPE, BYTES, LARGEST_FILE, PIPELINE, Tokenizer

from ..errors import InvalidTokenizer
from .chat_template import read_chat_format
from .config import as_token_id, content_of, list_added_tokens, read_object

# Special even where the files forget to say so: text must never be able to spell them.
_CONTROL = frozenset({"<|im_start|>", "<|im_end|>", "<|expand|>"})
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def load_tokenizer(checkpoint_dir: Path, config: ModelConfig) -> Tokenizer:
    """The tokenizer of a checkpoint, which writes conversations as its chat template does.

    Raises:
        InvalidTokenizer, UnreadableFile: see `convert_tokenizer`.
    """
    data = convert_tokenizer(checkpoint_dir, config)
    return Tokenizer.from_bytes(data, chat_format=read_chat_format(checkpoint_dir), source=checkpoint_dir)


def convert_tokenizer(checkpoint_dir: Path, config: ModelConfig) -> bytes:
    """The bytes of a tokenizer.json for the runtime; the same files give the same bytes.

    Reads vocab.json and merges.txt, or else tokenizer.json. Added tokens are those of tokenizer_config.json
    (`added_tokens_decoder`) or else of tokenizer.json, of added_tokens.json and of special_tokens_map.json together.

    Raises:
        InvalidTokenizer: files are absent or contradict each other, the pipeline is not Dream's, or ids do not fit
            `config`.
        UnreadableFile: a file is damaged.
    """
    directory = Path(checkpoint_dir)
    try:
        vocabulary = _read(directory)
        vocabulary.check(config)
        data = _format_tokenizer(vocabulary)
        Tokenizer.from_bytes(data)
    except (CorruptArtifact, _Problem) as error:
        raise InvalidTokenizer(directory, str(error)) from None
    return data


class _Problem(ValueError):
    """What is wrong, before it is known in which directory."""


@dataclass
class _Vocabulary:
    tokens: dict[str, int]
    merges: list[tuple[str, str]]
    added: dict[int, dict[str, Any]] = field(default_factory=dict)

    def add(self, index: object, token: object) -> None:
        """Take up one added token: a string, or the object that the files of transformers hold."""
        described = {"content": token} if isinstance(token, str) else token
        if not isinstance(described, dict) or not isinstance(described.get("content"), str) or not described["content"]:
            raise _Problem(f"added token {ascii(index)[:40]} has no content")
        content, stated = described["content"], index
        index = as_token_id(stated)
        if index is None:
            raise _Problem(f"added token {content!a} has the id {ascii(stated)[:40]}")
        known = self.added.get(index)
        if (known and known["content"] != content) or self.tokens.setdefault(content, index) != index:
            raise _Problem(f"the files disagree about added token {index}, {content!a}")
        if known is None:
            self.added[index] = {
                "id": index,
                "content": content,
                **{flag: described.get(flag, False) is True for flag in _FLAGS},
            }

    def check(self, config: ModelConfig) -> None:
        """Ids fit the network and its special ids are added tokens; merges join tokens that exist."""
        if not BYTES.issubset(self.tokens):
            raise _Problem("the vocabulary lacks some of the 256 bytes, so it is not a byte-level BPE")
        if len(set(self.tokens.values())) < len(self.tokens):
            raise _Problem("two tokens have the same id")
        largest = max(self.tokens.values())
        if largest >= config.vocab_size:
            raise _Problem(f"token id {largest} is beyond the vocab_size of config.json, {config.vocab_size}")
        ids = {name: getattr(config, name) for name in (*IDS, "expand_token_id")}
        absent = [f"{name} {index}" for name, index in ids.items() if index is not None and index not in self.added]
        if absent:
            raise _Problem(f"config.json names ids that are not added tokens: {', '.join(absent)}")
        for left, right in self.merges:
            if not {left, right, left + right} <= self.tokens.keys():
                raise _Problem(f"the merge {left!a} {right!a} uses a token that the vocabulary lacks")
        if len(set(self.merges)) < len(self.merges):
            raise _Problem("a merge is there twice")
        for index, token in self.added.items():
            token["special"] |= token["content"] in _CONTROL or index in ids.values()


def _read(directory: Path) -> _Vocabulary:
    vocab_file, merges_file, fast_file = (directory / name for name in ("vocab.json", "merges.txt", "tokenizer.json"))
    if vocab_file.is_file() and merges_file.is_file():
        vocabulary = _Vocabulary(_check_tokens(read_object(vocab_file)), list(_read_merges(merges_file)))
    elif fast_file.is_file():
        vocabulary = _read_fast(fast_file)
    else:
        raise _Problem("neither vocab.json with merges.txt nor tokenizer.json is here")
    settings, special_map = (
        read_object(directory / "tokenizer_config.json"),
        read_object(directory / "special_tokens_map.json"),
    )
    if not isinstance(settings.get("added_tokens_decoder", {}), dict):
        raise _Problem("added_tokens_decoder of tokenizer_config.json is not an object")
    for index, token in list_added_tokens(directory, settings):
        vocabulary.add(index, token)
    for content in {*_list_named(settings), *_list_named(special_map)} & vocabulary.tokens.keys():
        vocabulary.add(vocabulary.tokens[content], content)
        vocabulary.added[vocabulary.tokens[content]]["special"] = True
    return vocabulary


def _read_fast(file: Path) -> _Vocabulary:
    """A tokenizer.json whose pipeline is Dream's. What only shapes offsets, padding or pairs of texts is let be."""
    raw = read_object(file)
    for part in ("normalizer", "pre_tokenizer"):
        if _strip_offsets(raw.get(part)) != _strip_offsets(PIPELINE[part]):
            raise _Problem(f"the {part} of tokenizer.json is not the one of Dream's tokenizer")
    decoder = raw.get("decoder")
    if not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":  # its other fields mean nothing in it
        raise _Problem("the decoder of tokenizer.json is not the one of Dream's tokenizer")
    model, added = raw.get("model"), raw.get("added_tokens", [])
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise _Problem("the model of tokenizer.json is not a byte-level BPE")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.get(name):
            raise _Problem(f"{name} is set in tokenizer.json, which Dream's tokenizer does not use")
    merges = model.get("merges")
    if not isinstance(merges, list) or not isinstance(added, list):
        raise _Problem("merges or added_tokens of tokenizer.json is not a list")
    vocabulary = _Vocabulary(
        _check_tokens(model.get("vocab")), [_parse_pair(merge, f"merge {ascii(merge)[:80]}") for merge in merges]
    )
    for token in added:
        vocabulary.add(token.get("id") if isinstance(token, dict) else None, token)
    return vocabulary


def _format_tokenizer(vocabulary: _Vocabulary) -> bytes:
    """Canonical JSON. Added tokens stand in the vocabulary too, so that the library keeps their ids, gaps or not."""
    raw = {
        **PIPELINE,
        "added_tokens": [vocabulary.added[index] for index in sorted(vocabulary.added)],
        "model": {
            **BPE,
            "vocab": dict(sorted(vocabulary.tokens.items(), key=lambda item: item[1])),
            "merges": [" ".join(merge) for merge in vocabulary.merges],
        },
    }
    try:
        return json.dumps(raw, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError:
        raise _Problem("a token holds a lone surrogate") from None


def _check_tokens(vocab: object) -> dict[str, int]:
    if not isinstance(vocab, dict) or not vocab or not all(type(index) is int for index in vocab.values()):
        raise _Problem("the vocabulary is not a table of tokens and ids")
    return dict(vocab)


def _read_merges(file: Path) -> Iterator[tuple[str, str]]:
    """The lines of merges.txt: two tokens and a space between. A first line may name the version."""
    if file.stat().st_size > LARGEST_FILE:
        raise _Problem("merges.txt is too large")
    try:
        lines = file.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(file, f"cannot be read as UTF-8 text ({error})") from None
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r")
        if line and not (number == 1 and line.startswith("#version")):
            yield _parse_pair(line, f"line {number} of merges.txt")


def _parse_pair(merge: object, where: str) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) and part for part in parts):
        raise _Problem(f"{where} is not a pair of tokens")
    if any(" " in part for part in parts):
        raise _Problem(f"{where} holds a space, which a byte-level token cannot")
    return parts[0], parts[1]


def _list_named(settings: Mapping[str, Any]) -> Iterator[str]:
    """Contents of the tokens that have a role (`pad_token` …) or are listed as special."""
    for name, value in settings.items():
        if name.endswith("_token") or name == "additional_special_tokens":
            for token in value if isinstance(value, list) else [value]:
                if content := content_of(token):
                    yield content


def _strip_offsets(part: object) -> object:
    """A stage of a pipeline without what does not change ids."""
    if isinstance(part, dict):
        return {name: _strip_offsets(value) for name, value in part.items() if name != "trim_offsets"}
    return [_strip_offsets(value) for value in part] if isinstance(part, list) else part

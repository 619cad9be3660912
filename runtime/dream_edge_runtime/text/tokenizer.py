"""Text to ids and back: the byte-level BPE of Qwen2, in one tokenizer.json.

A tokenizer.json can describe pipelines of any kind, among them regular expressions that crash or hang the process. Only
one pipeline is Dream's, so any other is refused before the library sees it; a file brings nothing but its vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import pre_tokenizers

from ..chat_format import DREAM_CHAT, ChatFormat
from ..errors import CorruptArtifact, InvalidText, InvalidTokenId
from ..files.json import parse_json_object

LARGEST_FILE = 1 << 26
BYTES = frozenset(pre_tokenizers.ByteLevel.alphabet())
"""The characters that stand for the 256 bytes in a byte-level vocabulary."""
_THEMSELVES = frozenset(map(ord, BYTES)) & frozenset(range(256))
BYTE_OF = {chr(byte): byte for byte in sorted(_THEMSELVES)} | {
    chr(256 + rank): byte for rank, byte in enumerate(sorted(frozenset(range(256)) - _THEMSELVES))
}
"""The byte that each of them stands for: its own code point, or, in order, those from 256 on."""

# Qwen2's words: contractions; letters with what precedes them; single digits; punctuation with the line ends that
# follow; line ends; spaces. Every tokenizer.json of the family carries exactly this expression.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
PIPELINE: Mapping[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        ],
    },
    "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
}
"""All of Dream's tokenizer.json but its vocabulary (`model` and `added_tokens`)."""

BPE: Mapping[str, Any] = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": "",
    "end_of_word_suffix": "",
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}
"""All of its `model` but `vocab` and `merges`."""


@dataclass(frozen=True)
class AlignedText:
    """A text as its tokens.

    Decoding `ids` may give another text, since the tokenizer composes characters (Unicode NFC); `pieces` do not.
    """

    ids: tuple[int, ...] = ()
    pieces: tuple[str, ...] = ()
    """The part of the text that each token stands for; a character of several tokens is with the first. Joined, they
    are the text."""

    def __add__(self, after: AlignedText) -> AlignedText:
        return AlignedText(self.ids + after.ids, self.pieces + after.pieces)

    def __getitem__(self, tokens: slice) -> AlignedText:
        return AlignedText(self.ids[tokens], self.pieces[tokens])


class Tokenizer:
    """Immutable and shared by threads. Text is always text: only `special_id` gives the ids of special tokens.

    Attributes:
        vocab_size: the largest id + 1. The network may have more rows; they mean nothing.
        special_ids: ids of the special tokens.
        chat_format: how conversations are written; None where that is not known.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, chat_format: ChatFormat | None = DREAM_CHAT) -> None:
        """Use `from_bytes`, which checks what it reads."""
        tokenizer.encode_special_tokens = True  # "<|mask|>" in a text is eight characters, never a mask
        self._tokenizer = tokenizer
        self._special = {token.content: i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self.special_ids: frozenset[int] = frozenset(self._special.values())
        self.chat_format: ChatFormat | None = chat_format
        self.vocab_size: int = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def from_bytes(
        cls, data: bytes, *, chat_format: ChatFormat | None = DREAM_CHAT, source: Path | str = "tokenizer.json"
    ) -> Tokenizer:
        """Read the bytes of a tokenizer.json. Raises CorruptArtifact, which names `source`."""
        if len(data) > LARGEST_FILE:
            raise CorruptArtifact(source, f"is larger than {LARGEST_FILE} bytes")
        try:
            added = _check(parse_json_object(data))
            tokenizer = _build(data)
            if any(tokenizer.token_to_id(content) != index for content, index in added.items()):
                raise ValueError("added tokens do not have the ids they claim")
        except ValueError as error:
            raise CorruptArtifact(source, str(error)) from None
        return cls(tokenizer, chat_format)

    def token_bytes(self) -> dict[int, bytes]:
        """The bytes of every token that text may have."""
        added = self._tokenizer.get_added_tokens_decoder()
        spelled = self._tokenizer.get_vocab(with_added_tokens=False).items()
        tokens = {index: bytes(map(BYTE_OF.__getitem__, text)) for text, index in spelled if index not in added}
        return tokens | {index: token.content.encode() for index, token in added.items() if not token.special}

    def encode(self, text: str) -> list[int]:
        """Ids of `text`. What looks like a special token is text.

        Raises:
            InvalidText: a lone surrogate in the text, which has no bytes.
        """
        check_text(text)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def align(self, text: str) -> AlignedText:
        """The tokens of `text`, which may be empty, and what each of them stands for. Raises InvalidText."""
        check_text(text)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        starts = [start for start, _ in encoding.offsets]
        pieces, end = [], len(text)
        for at, start in reversed([*enumerate(starts)]):
            is_first = at == 0 or starts[at - 1] < start
            start = start if at else 0
            pieces.append(text[start:end] if is_first else "")
            end = start if is_first else end
        return AlignedText(tuple(encoding.ids), tuple(reversed(pieces)))

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Text of `ids`. Bytes that are not UTF-8 become U+FFFD; ids that no token has are left out.

        Raises:
            InvalidTokenId: an id that cannot be one (negative, or beyond 32 bits).
        """
        listed = [int(index) for index in ids]
        for index in listed:
            if not 0 <= index < 1 << 32:
                raise InvalidTokenId(index, self.vocab_size)
        text: str = self._tokenizer.decode(listed, skip_special_tokens=skip_special)
        return text

    def token_text(self, token: int) -> str:
        """One token by itself, for display: special tokens by name, pieces of characters as U+FFFD."""
        return self.decode([token], skip_special=False)

    def special_id(self, content: str) -> int | None:
        """Id of the special token `content`, None where the vocabulary has no such token."""
        return self._special.get(content)

    def is_special(self, token: int) -> bool:
        """Whether `token` is one of `special_ids`."""
        return token in self.special_ids


def check_text(text: str) -> None:
    """Raise `InvalidText` where `text` holds a lone surrogate."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidText(error.start) from None


def _check(raw: Mapping[str, Any]) -> dict[str, int]:
    """The ids of the added tokens, by content. `ValueError` where `raw` has anything but Dream's pipeline."""
    for name, value in PIPELINE.items():
        if raw.get(name) != value:
            raise ValueError(f"its {name} is not the one of Dream's tokenizer")
    model, added = raw.get("model"), raw.get("added_tokens")
    if not isinstance(model, dict) or {**model, "vocab": 0, "merges": 0} != {**BPE, "vocab": 0, "merges": 0}:
        raise ValueError("its model is not a byte-level BPE")
    if set(raw) != {*PIPELINE, "model", "added_tokens"}:
        raise ValueError("it has fields that Dream's tokenizer does not")
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not all(type(i) is int and 0 <= i < 1 << 24 for i in vocab.values()):
        raise ValueError("its vocabulary is not a table of tokens and ids")
    if len(set(vocab.values())) != len(vocab):
        raise ValueError("two tokens of its vocabulary have the same id")
    if not BYTES.issubset(vocab):
        raise ValueError("its vocabulary lacks some of the 256 bytes")
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise ValueError("its added_tokens is not a list of tokens")
    pairs = [(token.get("content"), token.get("id")) for token in added]
    if not all(isinstance(content, str) and content and vocab.get(content) == index for content, index in pairs):
        raise ValueError("an added token is missing from its vocabulary")
    if len(dict(pairs)) != len(pairs):
        raise ValueError("an added token is there twice")
    return dict(pairs)


def _build(data: bytes) -> tokenizers.Tokenizer:
    """`ValueError` for whatever the library says against `data`; its panics derive from BaseException alone."""
    try:
        return tokenizers.Tokenizer.from_buffer(data)
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ValueError(f"the tokenizers library refuses it ({error})") from None
        raise

"""The real Qwen2 vocabulary in Dream's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.synthetic import vocabulary
from tools.synthetic.vocabulary import MissingVocabulary, qwen2_vocabulary, write_slow_tokenizer

from .vocabulary import ROLES

PLAIN = vocabulary.PLAIN
ADDED_TOKENS = (*vocabulary.QWEN2_ADDED_TOKENS, "<|beginoftext|>", "<|mask|>")
SPECIAL_IDS = {"mask_token_id": 151666, "pad_token_id": 151643, "bos_token_id": 151643, "eos_token_id": 151643}
VOCAB_SIZE = 152064


def ranks() -> dict[bytes, int]:
    """Bytes of every ordinary token and their ids, which are also the order of the merges."""
    try:
        return vocabulary.ranks()
    except MissingVocabulary as error:
        pytest.skip(str(error))


def write_qwen2_tokenizer(directory: Path) -> None:
    """vocab.json, merges.txt and tokenizer_config.json with the 151,643 tokens and Dream's added ones."""
    added = dict(enumerate(ADDED_TOKENS, len(ranks())))
    write_slow_tokenizer(directory, *qwen2_vocabulary(), added, plain=PLAIN, roles=ROLES)

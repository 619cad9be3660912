"""A small byte-level BPE vocabulary in Qwen2's files, learnt from a few lines of text."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers

ADDED_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|beginoftext|>", "<|mask|>")
MERGES = 160

_TEXT = """The quick brown fox jumps over the lazy dog, and then the other thing happens in the rain.
def add(a, b):
    return a + b  # the sum of the two numbers
user system assistant You are a helpful assistant. What is the capital of the country where they went?
Input:\n1000\n0002\n4003\n0000\nOutput:\n1234 naïve café 你好世界 Привет мир
"""


@cache
def base_vocabulary() -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    """Tokens with their ids (256 bytes, then merges) and the merges in order."""
    words = [tuple(word) for word, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(_TEXT)]
    vocab = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    while len(merges) < MERGES:
        counts = Counter(pair for word in words for pair in pairwise(word))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        words = [_merge(word, best) for word in words]
        merges.append(best)
        vocab.setdefault("".join(best), len(vocab))
    return vocab, tuple(merges)


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return tuple(merged)


def special_ids() -> dict[str, int]:
    """The ids of mask, pad, bos and eos as config.json names them."""
    first = len(base_vocabulary()[0])
    ids = {content: first + index for index, content in enumerate(ADDED_TOKENS)}
    end = ids["<|endoftext|>"]
    return {"mask_token_id": ids["<|mask|>"], "pad_token_id": end, "bos_token_id": end, "eos_token_id": end}


def write_tokenizer(directory: Path) -> None:
    """vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json as Dream ships them."""
    vocab, merges = base_vocabulary()
    write_tokenizer_files(directory, vocab, merges, {len(vocab) + i: token for i, token in enumerate(ADDED_TOKENS)})


def write_tokenizer_files(
    directory: Path,
    vocab: dict[str, int],
    merges: tuple[tuple[str, str], ...] | list[tuple[str, str]],
    added: dict[int, str],
    *,
    plain: frozenset[str] = frozenset(),
) -> None:
    """The tokenizer files of any vocabulary; added tokens are special unless named in `plain`."""
    decoder: dict[str, Any] = {
        str(index): {
            "content": content,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": content not in plain,
        }
        for index, content in added.items()
    }
    special = {
        "bos_token": "<|beginoftext|>",
        "eos_token": "<|endoftext|>",
        "mask_token": "<|mask|>",
        "pad_token": "<|endoftext|>",
    }
    special = {name: content for name, content in special.items() if content in added.values()}
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": 131072,
        "tokenizer_class": "DreamTokenizer",
        "unk_token": None,
        **special,
    }
    _write_json(directory / "vocab.json", vocab)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    _write_json(directory / "tokenizer_config.json", settings)
    _write_json(directory / "special_tokens_map.json", special)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")

"""A small byte-level BPE vocabulary in Qwen2's files, learnt from a few lines of text."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

from tokenizers import pre_tokenizers

from tools.synthetic.vocabulary import write_slow_tokenizer

ADDED_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|beginoftext|>", "<|mask|>")
ROLES = {
    "bos_token": "<|beginoftext|>",
    "eos_token": "<|endoftext|>",
    "mask_token": "<|mask|>",
    "pad_token": "<|endoftext|>",
}
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
    added = dict(enumerate(ADDED_TOKENS, len(vocab)))
    write_slow_tokenizer(directory, vocab, merges, added, plain=frozenset(), roles=ROLES)

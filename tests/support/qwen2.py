"""The real Qwen2 vocabulary, from the tiktoken file that the `dashscope` package carries."""

from __future__ import annotations

import base64
import importlib.util
from itertools import pairwise
from pathlib import Path

import pytest

from .vocabulary import write_tokenizer_files

ADDED_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|beginoftext|>", "<|mask|>",
)  # fmt: skip
PLAIN = frozenset(ADDED_TOKENS[14:22])  # added, but not special
SPECIAL_IDS = {"mask_token_id": 151666, "pad_token_id": 151643, "bos_token_id": 151643, "eos_token_id": 151643}
VOCAB_SIZE = 152064


def ranks() -> dict[bytes, int]:
    """Bytes of every ordinary token and their ids, which are also the order of the merges."""
    package = importlib.util.find_spec("dashscope")  # found, not imported: only its data is wanted
    if package is None or package.origin is None:
        pytest.skip("the real Qwen2 vocabulary comes with the dashscope package")
    lines = (Path(package.origin).parent / "resources" / "qwen.tiktoken").read_bytes().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}


def write_qwen2_tokenizer(directory: Path) -> None:
    """vocab.json, merges.txt and tokenizer_config.json with the 151,643 tokens and Dream's added ones."""
    table = ranks()
    spelt = {token: "".join(_CHARACTERS[byte] for byte in token) for token in table}
    merges = [
        _halves(token, rank, table) for token, rank in sorted(table.items(), key=lambda item: item[1]) if len(token) > 1
    ]
    write_tokenizer_files(
        directory,
        {spelt[token]: rank for token, rank in table.items()},
        [(spelt[left], spelt[right]) for left, right in merges],
        dict(enumerate(ADDED_TOKENS, len(table))),
        plain=PLAIN,
    )


def _halves(token: bytes, rank: int, table: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens that are left of `token` once every merge of a lower rank has been applied to its bytes."""
    parts = [token[i : i + 1] for i in range(len(token))]
    joined = [table.get(left + right, rank) for left, right in pairwise(parts)]
    while len(parts) > 2:
        at = joined.index(min(joined))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        del joined[at]
        for i in range(max(at - 1, 0), min(at + 1, len(joined))):
            joined[i] = table.get(parts[i] + parts[i + 1], rank)
    return parts[0], parts[1]


def _byte_characters() -> list[str]:
    """GPT-2's spelling of the 256 bytes: visible Latin-1 stands for itself, the rest is moved to U+0100 and above."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(moved)) for byte in range(256)]


_CHARACTERS = _byte_characters()

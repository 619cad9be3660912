"""The real Qwen2 vocabulary, from the tiktoken file that the `dashscope` package carries, in Dream's own files."""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

QWEN2_ADDED_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip
FIRST_ADDED = 151643
QWEN3_ADDED_TOKENS = (*QWEN2_ADDED_TOKENS, "<tool_response>", "</tool_response>", "<think>", "</think>")

PLAIN = frozenset({*QWEN2_ADDED_TOKENS[14:22], *QWEN3_ADDED_TOKENS[22:]})
"""Added, but not special."""


def chat_template(system: str | None, *, thinks: bool = False) -> str:
    """A chat template that writes what the published ones do, without their branches for tools.

    Args:
        system: the system turn of a conversation that has none; Qwen3's writes none.
        thinks: earlier thoughts are left out, and enable_thinking=False closes them before they begin, as Qwen3's does.
    """
    first = "" if system is None else f"<|im_start|>system\n{system}<|im_end|>\n"
    answers = (
        "{% set content = message['content'] %}"
        "{% if message['role'] == 'assistant' and '</think>' in content %}"
        "{% set content = content.split('</think>')[-1].lstrip('\\n') %}"
        "{% endif %}"
    )
    silence = (
        "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    )
    return (
        "{% for message in messages %}"
        f"{{% if loop.first and message['role'] != 'system' %}}{first}{{% endif %}}"
        + (answers if thinks else "{% set content = message['content'] %}")
        + "{{ '<|im_start|>' + message['role'] + '\\n' + content + '<|im_end|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}" + (silence if thinks else "") + "{% endif %}"
    )


class MissingVocabulary(ModuleNotFoundError):
    def __init__(self) -> None:
        super().__init__("the Qwen2 vocabulary comes with the dashscope package: pip install dashscope")


@cache
def ranks() -> dict[bytes, int]:
    """Bytes of every ordinary token and their ids, which are also the order of the merges.

    Raises: MissingVocabulary.
    """
    package = importlib.util.find_spec("dashscope")  # found, not imported: only its data is wanted
    if package is None or package.origin is None:
        raise MissingVocabulary
    lines = (Path(package.origin).parent / "resources" / "qwen.tiktoken").read_bytes().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}


def qwen2_vocabulary(words: int | None = None) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The ordinary tokens with their ids, and the merges in order; of the first `words` tokens only, where given.

    The first 256 tokens are the bytes.
    """
    table = ranks()
    ordered = sorted(table.items(), key=lambda item: item[1])[:words]
    spelt = {token: "".join(_CHARACTERS[byte] for byte in token) for token, _ in ordered}
    halves = [_halves(token, rank, table) for token, rank in ordered if len(token) > 1]
    return {spelt[token]: rank for token, rank in ordered}, [(spelt[left], spelt[right]) for left, right in halves]


def _halves(token: bytes, rank: int, table: Mapping[bytes, int]) -> tuple[bytes, bytes]:
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


def write_slow_tokenizer(
    directory: Path,
    vocab: Mapping[str, int],
    merges: Iterable[tuple[str, str]],
    added: Mapping[int, str],
    *,
    plain: frozenset[str],
    roles: Mapping[str, str],
    **settings: Any,
) -> None:
    """vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json of any byte-level vocabulary.

    Added tokens are special unless named in `plain`; `roles` names those that have one (`mask_token` …).
    """
    decoder = {str(index): added_token(content, plain) for index, content in added.items()}
    write_json(directory / "vocab.json", vocab)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": 131072,
        "tokenizer_class": "DreamTokenizer",
        "unk_token": None,
        **roles,
        **settings,
    }
    write_json(directory / "tokenizer_config.json", config, indent=2)
    write_json(directory / "special_tokens_map.json", dict(roles), indent=2)


def write_fast_tokenizer(
    directory: Path,
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    added: Mapping[int, str],
    plain: frozenset[str],
) -> None:
    """tokenizer.json, as the published Qwen2 tokenizers have it."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    words = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    split = {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": False}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": vocab,
        "merges": [f"{left} {right}" for left, right in merges],
    }
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, **added_token(content, plain)} for index, content in added.items()],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": model,
    }
    write_json(directory / "tokenizer.json", document)


def added_token(content: str, plain: frozenset[str]) -> dict[str, Any]:
    """One added token, as the files of transformers describe it."""
    return {
        "content": content,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": content not in plain,
    }


def write_json(path: Path, value: object, indent: int | None = None) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _byte_characters() -> list[str]:
    """GPT-2's spelling of the 256 bytes: visible Latin-1 stands for itself, the rest is moved to U+0100 and above."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(moved)) for byte in range(256)]


_CHARACTERS = _byte_characters()

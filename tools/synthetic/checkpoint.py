"""Writes a whole checkpoint: configuration, tokenizer and shards, in memory bounded by a few rows of one tensor."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from .geometries import Geometry
from .vocabulary import (
    FIRST_ADDED,
    PLAIN,
    QWEN2_ADDED_TOKENS,
    QWEN3_ADDED_TOKENS,
    qwen2_vocabulary,
    write_fast_tokenizer,
    write_json,
    write_slow_tokenizer,
)
from .weights import Weights, tensor_shapes

SHARD_SIZE = 5_000_000_000
"""Bytes; what transformers cut Dream's shards at, which makes four of them."""

Shapes = Mapping[str, tuple[int, ...]]


def synthesize(
    geometry: Geometry,
    out: Path,
    *,
    seed: int = 0,
    shard_size: int = SHARD_SIZE,
    words: int | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Write a checkpoint of `geometry` in directory `out`; the same arguments give the same bytes.

    Args:
        words: keep only the first so many of the vocabulary's ordinary tokens (and all added ones, at their real ids).
        force: replace what is at `out`, once the new checkpoint is whole.
        progress: called with bytes of weights written so far, and of how many.

    Raises:
        FileExistsError: `out` is there and `force` is not set.
        MissingVocabulary: the package that the vocabulary comes from is not installed.
    """
    out = out.absolute()
    if out.exists() and not force:
        raise FileExistsError(f"{out} already exists. Pass --force to replace it, or name another directory.")
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = out.with_name(f".{out.name}-{secrets.token_hex(4)}.partial")
    staging.mkdir()
    try:
        _write_configuration(geometry, staging)
        _write_tokenizer(geometry, staging, words)
        _write_weights(geometry, staging, seed, shard_size, progress)
        if out.exists():
            shutil.rmtree(out)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_configuration(geometry: Geometry, directory: Path) -> None:
    write_json(directory / "config.json", dict(sorted(geometry.config.items())), indent=2)
    if geometry.generation is not None:
        write_json(directory / "generation_config.json", dict(sorted(geometry.generation.items())), indent=2)
    card = (
        f"---\nlicense: {geometry.license}\n---\n"
        f"Random weights in the layout of {geometry.repository}. Nothing here was trained; it writes no sense.\n"
    )
    (directory / "README.md").write_text(card, encoding="utf-8", newline="\n")


def _write_tokenizer(geometry: Geometry, directory: Path, words: int | None) -> None:
    vocab, merges = qwen2_vocabulary(words)
    known = QWEN2_ADDED_TOKENS if geometry.qwen == 2 else QWEN3_ADDED_TOKENS
    added = dict(enumerate((*known, *geometry.added_tokens), FIRST_ADDED))
    template = {} if geometry.template_file else {"chat_template": geometry.template}
    if geometry.template_file:
        (directory / "chat_template.jinja").write_text(geometry.template, encoding="utf-8", newline="\n")
    write_slow_tokenizer(
        directory,
        vocab,
        merges,
        added,
        plain=PLAIN,
        roles=geometry.roles,
        additional_special_tokens=[token for token in known[1:] if token not in PLAIN],
        auto_map={"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
        split_special_tokens=False,
        **template,
    )
    write_json(directory / "added_tokens.json", {content: index for index, content in added.items()}, indent=2)
    if geometry.fast_tokenizer:
        write_fast_tokenizer(directory, vocab, merges, added, PLAIN)


# --- weights ---------------------------------------------------------------------------------------------------------


def _write_weights(
    geometry: Geometry, directory: Path, seed: int, shard_size: int, progress: Callable[[int, int], None]
) -> None:
    shapes = tensor_shapes(geometry.config, stores_lm_head=geometry.stores_lm_head, has_norms=geometry.qwen == 3)
    weights = Weights(geometry.config, seed)
    shards = _shards(shapes, shard_size)
    total, done = sum(map(_size, shapes.values())), 0
    for number, shard in enumerate(shards, 1):
        with (directory / _file_name(number, len(shards))).open("xb") as file:
            file.write(_header(shard))
            for name, shape in sorted(shard.items()):
                for chunk in weights.chunks(name, shape):
                    file.write(chunk.data)
                    done += chunk.nbytes
                    progress(done, total)
            _flush(file)
    if len(shards) > 1:
        files = {name: _file_name(number, len(shards)) for number, shard in enumerate(shards, 1) for name in shard}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}
        write_json(directory / "model.safetensors.index.json", index, indent=2)


def _shards(shapes: Shapes, shard_size: int) -> list[dict[str, tuple[int, ...]]]:
    """The tensors in order, a new shard begun where the next one would not fit."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in shapes.items():
        if shards[-1] and filled + _size(shape) > shard_size:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += _size(shape)
    return shards


def _header(shard: Shapes) -> bytes:
    """The head of a safetensors file: its own size, and where each tensor lies after it, by name."""
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in sorted(shard.items()):
        start, end = end, end + _size(shape)
        table[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _size(shape: tuple[int, ...]) -> int:
    return 2 * math.prod(shape)


def _file_name(number: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())

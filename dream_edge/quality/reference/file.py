"""How reference predictions lie in their file, the base: safetensors, data and never code, with checksums.

https://huggingface.co/docs/safetensors/index#format: the length of the header (u64, little endian), a JSON table of
types, shapes and offsets, then the arrays, here these and in this order:

    canvas I32 [tokens]         ids of all passages, one after the other, with masks
    lengths, masked, bins I32 [passages]      of each: tokens, masks, interval of mask ratios
    positions, targets I32 [rows]             of each masked position: where in its passage, and what was there
    codes U16 [rows, vocab]                   log-probabilities, see `encode`
    checksums U32 [rows]                      CRC-32 of each row of codes

Its metadata hold the version and, as one JSON object, `About`. A release reads every older minor version and refuses an
unknown major one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.files.json import describe, parse_json_object
from dream_edge_runtime.format.model_config import ModelConfig, add_form_of_dream

from ..errors import CorruptBase, UnsupportedBase
from ..measure.differences import DoubleArray
from ..texts.masking import Evaluation, MaskedPassage

Codes = NDArray[np.uint16]

FORMAT = "dream-edge base"
MAJOR, MINOR = 1, 1
LARGEST_HEADER = 1 << 26

_WIDTHS = {"I32": 4, "U16": 2, "U32": 4}
_LARGEST_NUMBER = 1 << 40
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 255

DEEPEST = 64.0
_LAST = 65535
_DEPTHS = DEEPEST * (np.arange(_LAST + 1) / _LAST) ** 2


@dataclass(frozen=True, kw_only=True)
class About:
    """What a base says of where it came from.

    Attributes:
        checkpoint: name of its directory.
        fingerprint: SHA-256, in hex, that tells its weights from others; see `provenance.fingerprint` of the export.
        config: its geometry.
        extras: small things that others keep with a base, by name: plain values for JSON.
    """

    checkpoint: str
    fingerprint: str
    config: ModelConfig
    bins: int
    longest: int
    seed: int
    data: str
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.checkpoint, str) or len(self.checkpoint) > _LONGEST_NAME:
            raise TypeError("the checkpoint's name is not a short text")
        for digest in (self.fingerprint, self.data):
            if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
                raise TypeError("a digest is not 64 hex digits")
        for number, least in ((self.bins, 1), (self.longest, 2), (self.seed, 0)):
            if type(number) is not int or not least <= number < 1 << 64:
                raise TypeError("bins, longest or seed is not such a number")
        if not isinstance(self.extras, Mapping):
            raise TypeError("the extras are not an object")

    def to_json(self) -> str:
        """ValueError or TypeError where an extra is not a plain value."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str, minor: int = MINOR) -> About:
        """What a base of the `minor` version says."""
        document = parse_json_object(text)
        config = document["config"]
        if minor < 1:
            config = {**add_form_of_dream(config), "tie_word_embeddings": config["tie_word_embeddings"]}
        return cls(**{**document, "config": ModelConfig(**config)})


@dataclass(frozen=True)
class Layout:
    """Where each array lies."""

    passages: int
    tokens: int
    rows: int
    vocab: int

    @property
    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        each, masked = (self.passages,), (self.rows,)
        return {
            "canvas": ("I32", (self.tokens,)),
            "lengths": ("I32", each),
            "masked": ("I32", each),
            "bins": ("I32", each),
            "positions": ("I32", masked),
            "targets": ("I32", masked),
            "codes": ("U16", (self.rows, self.vocab)),
            "checksums": ("U32", masked),
        }

    @property
    def table(self) -> dict[str, Any]:
        """What the header says of each array."""
        return {
            name: {"data_offsets": [*self.span(name)], "dtype": dtype, "shape": [*shape]}
            for name, (dtype, shape) in self.arrays.items()
        }

    def span(self, name: str) -> tuple[int, int]:
        """First byte of an array after the header, and the one after its last."""
        start = 0
        for other, (dtype, shape) in self.arrays.items():
            stop = start + math.prod(shape) * _WIDTHS[dtype]
            if other == name:
                return start, stop
            start = stop
        raise KeyError(name)

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return self.span("checksums")[1]


def header(about: About, layout: Layout) -> bytes:
    """The file up to its arrays."""
    metadata = {"about": about.to_json(), "format": FORMAT, "version": f"{MAJOR}.{MINOR}"}
    text = json.dumps({"__metadata__": metadata, **layout.table}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise ValueError(f"what is kept with a base has at most {LARGEST_HEADER >> 20} MB")
    return len(text).to_bytes(8, "little") + text


def read_header(file: BinaryIO, size: int, path: Path) -> tuple[About, Layout, int]:
    """About, layout and length of the header of a file of `size` bytes; every byte of it is accounted for.

    Raises: CorruptBase, UnsupportedBase.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(LARGEST_HEADER, size - 8):
        raise CorruptBase(path, "its header does not fit into it")
    try:
        table = parse_json_object(file.read(length))
        metadata = table.pop("__metadata__")
        if metadata["format"] != FORMAT:
            raise ValueError("it is a safetensors file of another kind")
        minor = _check_version(path, metadata["version"])
        about, layout = About.from_json(metadata["about"], minor), _layout(table)
        if layout.vocab != about.config.vocab_size:
            raise ValueError("its rows are not as long as the vocabulary")
        if 8 + length + layout.size != size:
            raise ValueError(f"its arrays need {8 + length + layout.size} bytes, the file has {size}")
    except UnsupportedBase:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptBase(path, f"its header is wrong ({describe(error)})") from None
    return about, layout, 8 + length


def _check_version(path: Path, version: str) -> int:
    """The minor version."""
    match = _VERSION.fullmatch(version)
    if not match:
        raise ValueError("its version is not MAJOR.MINOR")
    major, minor = map(int, match.groups())
    if major != MAJOR or minor > MINOR:
        raise UnsupportedBase(path, version, f"{MAJOR}.{MINOR}")
    return minor


def _layout(table: Mapping[str, Any]) -> Layout:
    """The layout that `table` states; ValueError, TypeError or KeyError unless it is exactly that."""
    sizes = {name: entry["shape"] for name, entry in table.items()}
    numbers = (*sizes["lengths"], *sizes["canvas"], *sizes["codes"])
    if len(numbers) != 4 or not all(type(number) is int and 0 < number < _LARGEST_NUMBER for number in numbers):
        raise ValueError("shape and offsets must be positive integers")
    layout = Layout(*numbers)
    if table != layout.table:
        raise ValueError("arrays that do not fit each other")
    return layout


def arrays_of(evaluation: Evaluation) -> dict[str, NDArray[np.int32]]:
    """The arrays before the codes, in their order."""
    passages = evaluation.passages
    found = {
        "canvas": np.concatenate([masked.canvas for masked in passages]),
        "lengths": np.array([len(masked.canvas) for masked in passages]),
        "masked": np.array([len(masked.positions) for masked in passages]),
        "bins": np.array([masked.bin for masked in passages]),
        "positions": np.concatenate([masked.positions for masked in passages]),
        "targets": np.concatenate([masked.targets for masked in passages]),
    }
    return {name: values.astype("<i4") for name, values in found.items()}


def evaluation_of(arrays: Mapping[str, NDArray[np.int32]], about: About) -> Evaluation:
    """The inverse of `arrays_of`; ValueError unless a masking could have made them."""
    lengths, masked = arrays["lengths"].astype(np.int64), arrays["masked"].astype(np.int64)
    if (
        (lengths < 1).any()
        or (masked < 1).any()
        or (masked > lengths).any()
        or lengths.sum() != len(arrays["canvas"])
        or masked.sum() != len(arrays["positions"])
        or lengths.max() > about.config.context
        or not _within(arrays["bins"], about.bins)
        or not _within(arrays["canvas"], about.config.vocab_size)
        or not _within(arrays["targets"], about.config.vocab_size)
    ):
        raise ValueError("its passages do not fit the model or each other")
    passages = tuple(
        MaskedPassage(canvas, positions, targets, int(part))
        for canvas, positions, targets, part in zip(
            np.split(arrays["canvas"].astype(np.int64), lengths.cumsum()[:-1]),
            np.split(arrays["positions"].astype(np.int64), masked.cumsum()[:-1]),
            np.split(arrays["targets"].astype(np.int64), masked.cumsum()[:-1]),
            arrays["bins"],
            strict=True,
        )
    )
    for passage in passages:
        positions = passage.positions
        if not _within(positions, len(passage.canvas)) or (np.diff(positions) < 1).any():
            raise ValueError("its masked positions are not positions in ascending order")
        if (passage.canvas[positions] != about.config.mask_token_id).any():
            raise ValueError("a masked position holds no mask")
    return Evaluation(passages, about.bins, about.longest, about.seed, about.data)


def _within(values: NDArray[Any], bound: int) -> bool:
    return bool(values.min() >= 0 and values.max() < bound)


# --- log-probabilities in 16 bits, exact where the probability is -----------------------------------------------------


def encode(logits: FloatArray) -> Codes:
    """Codes [rows, vocab] of the log-probabilities that finite `logits` [rows, vocab] stand for.

    A code is the depth below the most probable token, on a scale of squares: depth = 64 nats · (code / 65535)². The
    best token and those close to it keep what fp32 says of them, so that near ties stay in order; at a depth of 12 nats
    the step is 0.0008 nats. Whatever is deeper than 64 nats is put there: e⁻⁶⁴ of the best is nothing, even 152064
    times. The normaliser is not kept; reading sums it up again.

    KL to what went in is about 1e-8 nats for the distributions of a language model. Beside it: fp16 loses 2.5e-6 where
    they are flat; 16 linear bits down to 16 nats, as `llama-perplexity --kl-divergence-base` keeps them, lose 0.02 nats
    where they are peaked, since its floor of e⁻¹⁶ adds up over a large vocabulary.
    """
    depths = logits.max(axis=1, keepdims=True) - logits
    np.minimum(depths, np.float32(DEEPEST), out=depths)
    depths *= np.float32(1 / DEEPEST)
    np.sqrt(depths, out=depths)
    depths *= np.float32(_LAST)
    codes: Codes = np.rint(depths, out=depths).astype(np.uint16)
    return codes


def decode(codes: Codes) -> DoubleArray:
    """Log-probabilities [rows, vocab]; their exponentials add up to 1."""
    found: DoubleArray = -_DEPTHS[codes]
    found -= np.log(np.exp(found).sum(axis=1, keepdims=True))
    return found

"""One safetensors file: its header checked in full, its tensors read by plain reads.

The format is https://huggingface.co/docs/safetensors/index#format: the header's length (u64, little endian), a JSON
table of types, shapes and offsets, then the tensors. Nothing is mapped: a mapping would count as resident memory, and
would kill the process when the file is cut off meanwhile.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

import torch

from dream_edge_runtime.errors import CheckpointChanged, CheckpointNotFound, UnreadableFile
from dream_edge_runtime.files.json import parse_json_object

_LARGEST_HEADER = 100_000_000  # the library's own bound

# bytes of an element; those of which several share a byte are left out, since no checkpoint has them
_WIDTHS = dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1)
_WIDTHS |= dict.fromkeys(("U16", "I16", "F16", "BF16"), 2)
_WIDTHS |= dict.fromkeys(("U32", "I32", "F32"), 4) | dict.fromkeys(("U64", "I64", "F64", "C64"), 8)


@dataclass(frozen=True)
class Entry:
    """What the header says of one tensor: its type by the format's name, its shape, its bytes in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Stamp(NamedTuple):
    """What tells a file from another one, and from itself before it was written to."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, file: BinaryIO) -> Stamp:
        status = os.fstat(file.fileno())
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, eq=False)
class TensorFile:
    """A safetensors file whose header is sound.

    Attributes:
        header_sha256: of the header, in hex.
        entries: the tensors by name; together they cover the file without holes and overlaps.
    """

    path: Path
    stamp: Stamp
    header_sha256: str
    entries: Mapping[str, Entry]

    @classmethod
    def open(cls, path: Path) -> TensorFile:
        """Raises CheckpointNotFound, UnreadableFile."""
        try:
            with path.open("rb", buffering=0) as file:
                stamp = Stamp.of(file)
                length = int.from_bytes(file.read(8), "little")
                if not 2 <= length <= min(_LARGEST_HEADER, stamp.size - 8):
                    raise UnreadableFile(path, "not a safetensors file: its header does not fit into it")
                header = bytearray(length)
                _read_into(file, memoryview(header))
        except FileNotFoundError:
            raise CheckpointNotFound(path.parent, path.name) from None
        except UnreadableFile:
            raise
        except (OSError, EOFError) as error:
            raise UnreadableFile(path, f"cannot be read ({error})") from None
        try:
            entries = _entries(header, data_size=stamp.size - 8 - length)
        except (ValueError, TypeError) as error:
            raise UnreadableFile(path, f"its safetensors header is damaged ({error})") from None
        return cls(path, stamp, hashlib.sha256(header).hexdigest(), MappingProxyType(entries))

    def read(self, name: str, dtype: torch.dtype, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Rows `first` to `last` of tensor `name`; only their bytes are read.

        Raises:
            CheckpointChanged: the file is not the one that was opened, or was written to since.
            UnreadableFile: the disk fails.
        """
        entry = self.entries[name]
        rows = (entry.shape[0] if last is None else last) - first
        row_bytes = (entry.stop - entry.start) // entry.shape[0] if entry.shape[0] else 0
        data = bytearray(rows * row_bytes)
        try:
            with self.path.open("rb", buffering=0) as file:
                self._check_unchanged(file)
                file.seek(entry.start + first * row_bytes)
                _read_into(file, memoryview(data))
                self._check_unchanged(file)
        except CheckpointChanged:
            raise
        except (FileNotFoundError, EOFError):
            raise CheckpointChanged(self.path) from None
        except OSError as error:
            raise UnreadableFile(self.path, f"cannot be read ({error.strerror})") from None
        if not data:
            return torch.empty((rows, *entry.shape[1:]), dtype=dtype)
        return torch.frombuffer(data, dtype=dtype).reshape(rows, *entry.shape[1:])

    def _check_unchanged(self, file: BinaryIO) -> None:
        if Stamp.of(file) != self.stamp:
            raise CheckpointChanged(self.path)


def _read_into(file: Any, buffer: memoryview) -> None:
    while buffer:
        count = file.readinto(buffer)  # at most 2 GB at a time on Linux
        if not count:
            raise EOFError
        buffer = buffer[count:]


def _entries(header: bytes | bytearray, data_size: int) -> dict[str, Entry]:
    """The table of a header; ValueError or TypeError unless it accounts for every byte of the data."""
    table = parse_json_object(bytes(header))
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise TypeError("its metadata are not strings")
    offset = 8 + len(header)
    entries = {name: _entry(name, raw, offset) for name, raw in table.items()}
    position = offset
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.stop)):
        if entry.start != position:
            raise ValueError("its tensors overlap or leave holes")
        position = entry.stop
    if position != offset + data_size:
        raise ValueError(f"its tensors need {position} bytes, the file has {offset + data_size}")
    return entries


def _entry(name: str, raw: Any, offset: int) -> Entry:
    if not isinstance(raw, dict) or set(raw) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{ascii(name)[:80]} has other fields than dtype, shape and data_offsets")
    dtype, shape, (start, stop) = raw["dtype"], raw["shape"], raw["data_offsets"]
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in (*shape, start, stop)):
        raise ValueError(f"{ascii(name)[:80]} has sizes that are not sizes")
    if dtype not in _WIDTHS:
        raise ValueError(f"{ascii(name)[:80]} is of an unknown type")
    if math.prod(shape) * _WIDTHS[dtype] != stop - start:
        raise ValueError(f"{ascii(name)[:80]} does not fit between its offsets")
    return Entry(dtype, tuple(shape), offset + start, offset + stop)

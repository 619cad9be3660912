"""One safetensors file: its header checked, its tensors read by plain reads, and every read of the same file.

The library checks that the header accounts for every byte of the file and allocates nothing that the file does not
hold. It reads by `pread`: a mapping would count as resident memory, and would kill the process when the file is cut
off meanwhile. What it does not notice is a file that changes between two reads, which is checked here. Rows are
read here too: the library (0.8.0) reads a whole tensor for each slice of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from dream_edge_runtime.errors import CheckpointNotFound, UnreadableFile
from dream_edge_runtime.files.json import describe
from dream_edge_runtime.files.regular import Stamp

from ..errors import CheckpointChanged

_DTYPES = {"U8": torch.uint8, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


class TensorEntry(NamedTuple):
    """What the header says of one tensor: its type, by the format's name, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in the file, of the types that are read."""
        return math.prod(self.shape) * _DTYPES[self.dtype].itemsize


@dataclass(frozen=True, eq=False)
class TensorFile:
    """A safetensors file whose header is sound. Its methods may be called from several threads.

    Attributes:
        path: where it lies.
        stamp: how it was when it was opened.
        entries: its tensors by name.
    """

    path: Path
    stamp: Stamp
    entries: Mapping[str, TensorEntry]
    _opened: Any = field(repr=False)
    _starts: Mapping[str, int] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> TensorFile:
        """Read and check the header; no tensor yet.

        Raises:
            CheckpointNotFound: there is no such file.
            CheckpointChanged: it changes at this moment.
            UnreadableFile: it is not a safetensors file, or cut off.
        """
        try:
            stamp = Stamp.of(path)
            opened: Any = safe_open(path, framework="pt", backend="pread")
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
            with path.open("rb") as raw:
                length = int.from_bytes(raw.read(8), "little")
                header = json.loads(raw.read(length))
            starts = {name: 8 + length + header[name]["data_offsets"][0] for name in slices}
        except FileNotFoundError:
            raise CheckpointNotFound(path.parent, path.name) from None
        except (SafetensorError, OSError) as error:
            raise UnreadableFile(path, f"cannot be read as safetensors ({describe(error)})") from None
        except (ValueError, KeyError):  # the library has found it sound a moment before
            raise CheckpointChanged(path) from None
        entries = {name: TensorEntry(each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}
        file = cls(path, stamp, MappingProxyType(entries), opened, starts)
        file._check_unchanged()
        return file

    def read(self, name: str, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Rows `first` to `last` of tensor `name`; only their bytes are read.

        Raises:
            CheckpointChanged: the file is not the one that was opened, or was written to since.
            UnreadableFile: the disk fails.
        """
        self._check_unchanged()
        try:
            tensor: torch.Tensor
            dtype, shape = _DTYPES.get(self.entries[name].dtype), self.entries[name].shape
            if dtype is None or not shape or (first == 0 and last is None):
                tensor = self._opened.get_tensor(name)[first:last] if shape else self._opened.get_tensor(name)
            else:
                rows = range(shape[0])[first:last]
                row = dtype.itemsize * math.prod(shape[1:])
                with self.path.open("rb") as file:
                    file.seek(self._starts[name] + rows.start * row)
                    data = bytearray(file.read(len(rows) * row))
                if len(data) != len(rows) * row:
                    raise OSError("it is cut off")
                empty = torch.empty((0, *shape[1:]), dtype=dtype)
                tensor = torch.frombuffer(data, dtype=dtype).view(len(rows), *shape[1:]) if data else empty
        except (SafetensorError, OSError) as error:
            self._check_unchanged()
            raise UnreadableFile(self.path, f"cannot be read ({describe(error)})") from None
        self._check_unchanged()
        return tensor

    def _check_unchanged(self) -> None:
        try:
            is_same = Stamp.of(self.path) == self.stamp
        except OSError:
            is_same = False
        if not is_same:
            raise CheckpointChanged(self.path)

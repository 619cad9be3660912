"""The one stream of bytes that fills the shards.

Bytes are only ever appended: a shard is hashed as it grows, and an interrupted export resumes where it stopped.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dream_edge_runtime.files.writing import open_to_append, sync_directory, write_all
from dream_edge_runtime.format.layout import Layout, Place
from dream_edge_runtime.format.manifest import FileEntry

from .journal import Finished

_HASHED = 1 << 20


class WeightWriter:
    """Fills the shards of `layout` in `directory`, in order.

    Use as a context manager. `resume` first, to continue what is there. `finished` is how it was at the last `mark`.
    """

    def __init__(self, directory: Path, layout: Layout) -> None:
        self._directory = directory
        self._layout = layout
        self._index = 0  # of the tensor that is being written
        self._written = 0  # bytes of it
        self._shard, self._fd, self._end = "", -1, 0  # the open shard and its bytes
        self._hashes: dict[str, hashlib._Hash] = {}
        self.finished = Finished()

    def __enter__(self) -> WeightWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def resume(self, finished: Finished) -> bool:
        """Continue after `finished` if that is what lies on disk; whether it is."""
        sizes = self._layout.sizes(finished.count)
        try:
            hashes = {name: _hash_file(self._directory / name, size) for name, size in sizes.items()}
        except (OSError, EOFError):
            return False
        if not sizes or {name: each.hexdigest() for name, each in hashes.items()} != dict(finished.digests):
            return False
        self._shard, self._end = [*sizes.items()][-1]
        self._hashes, self._index, self.finished = hashes, finished.count, finished
        self._fd = open_to_append(self._directory / self._shard, self._end)
        return True

    def append(self, name: str, array: NDArray[np.generic]) -> None:
        """The next part of tensor `name`: parts come in the order of the layout and of the bytes in a tensor."""
        if not self._written and self._place.spec.name == name:
            self._begin(self._place)
        place = self._place
        dtype, row = place.spec.dtype, place.spec.shape[1:]
        if (name, array.dtype.name, array.shape[1:]) != (place.spec.name, dtype, row):
            raise TypeError(f"{name} is {array.dtype} {array.shape}, expected a part of {place.spec}")
        if self._written + array.nbytes > place.size:
            raise ValueError(f"{name} is longer than {place.spec}")
        self._append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self._written += array.nbytes
        if self._written == place.size:
            self._index, self._written = self._index + 1, 0

    def sync(self) -> None:
        """Have all bytes on the disk."""
        if self._fd >= 0:
            os.fsync(self._fd)
            sync_directory(self._directory)

    def mark(self) -> None:
        """The tensors so far are complete as a whole: an interrupted export may resume here."""
        self.finished = Finished(self._index, {name: digest.hexdigest() for name, digest in self._hashes.items()})

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """The shards, once all tensors are written."""
        if self._index < len(self._layout.places):
            raise ValueError(f"{self._place.spec.name} was not written")
        self.sync()
        self.mark()
        return tuple(FileEntry(name, size, self.finished.digests[name]) for name, size in self._layout.sizes().items())

    @property
    def _place(self) -> Place:
        return self._layout.places[self._index]

    def _begin(self, place: Place) -> None:
        if place.shard != self._shard:
            if self._fd >= 0:
                os.fsync(self._fd)
                os.close(self._fd)
            self._shard, self._end = place.shard, 0
            self._hashes[place.shard] = hashlib.sha256()
            self._fd = open_to_append(self._directory / place.shard, 0)
        self._append(memoryview(bytes(place.offset - self._end)))

    def _append(self, data: memoryview) -> None:
        write_all(self._fd, data)
        self._hashes[self._shard].update(data)
        self._end += len(data)


def _hash_file(path: Path, size: int) -> hashlib._Hash:
    """Hash the first `size` bytes; EOFError when there are fewer."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while size:
            chunk = file.read(min(size, _HASHED))
            if not chunk:
                raise EOFError
            digest.update(chunk)
            size -= len(chunk)
    return digest

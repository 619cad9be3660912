"""Writes the weights of a graph into shards, and points the graph at them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dream_edge_runtime.contract import TensorSpec
from dream_edge_runtime.manifest import FileEntry

LARGEST_SHARD = 2_000_000_000
ALIGNMENT = 64  # a cache line: what the kernels' loads want of a mapped file


class WeightWriter:
    """Appends arrays to weights-00001.bin, -00002.bin …; each array lies in one shard.

    Use as a context manager; `files` is complete when it is left.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shard: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._position = 0
        self.files: list[FileEntry] = []

    def __enter__(self) -> WeightWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_shard()

    def write(self, spec: TensorSpec, array: NDArray[np.generic]) -> ir.ExternalTensor:
        """Append the array of weight `spec`, which must have its type and shape, and say where it lies."""
        if (array.dtype.name, array.shape) != (spec.dtype, spec.shape):
            raise TypeError(f"{spec.name} is {array.dtype} {array.shape}, the graph expects {spec.dtype} {spec.shape}")
        padding = -self._position % ALIGNMENT
        if self._shard is None or self._position + padding + array.nbytes > LARGEST_SHARD:
            self._open_shard()
            padding = 0
        self._append(bytes(padding))
        tensor = ir.ExternalTensor(
            self._name(),
            offset=self._position,
            length=array.nbytes,
            dtype=ir.DataType.from_numpy(array.dtype),
            shape=ir.Shape(array.shape),
            name=spec.name,
            base_dir=self._directory,
        )
        self._append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return tensor

    def _append(self, data: bytes | memoryview) -> None:
        assert self._shard is not None
        self._shard.write(data)
        self._digest.update(data)
        self._position += len(data)

    def _open_shard(self) -> None:
        self._close_shard()
        self._digest, self._position = hashlib.sha256(), 0
        self._shard = (self._directory / self._name()).open("xb")

    def _close_shard(self) -> None:
        if self._shard is None:
            return
        name = self._name()
        self._shard.flush()
        os.fsync(self._shard.fileno())
        self._shard.close()
        self._shard = None
        self.files.append(FileEntry(name, self._position, self._digest.hexdigest()))

    def _name(self) -> str:
        """The name of the open shard."""
        return f"weights-{len(self.files) + 1:05d}.bin"

"""What a calibration has finished: a file for each layer, beside the states that the next one starts from.

    key                     of which work this is
    layer-00007.safetensors what the artifact stores of a layer, under its names there; renamed when whole
    00008.original          states before a layer, in the original network
    00008.quantized         and in the one quantized so far
    head.safetensors        the last norm, and what the columns of lm_head are multiplied by
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from ..disk import remove_tree, sync_directory, write_file
from .layer import Chosen, Streams

Stored = Mapping[str, NDArray[np.generic]]


class Store:
    """The directory of one calibration. Make one with `Store.open`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def open(cls, directory: Path, key: str) -> Store:
        """What an earlier run of the work `key` has left is kept, anything else removed."""
        name = directory / "key"
        if not name.is_file() or name.read_text() != key:
            remove_tree(directory)
            directory.mkdir()
            write_file(name, key.encode())
        return cls(directory)

    @property
    def layers(self) -> int:
        """How many layers are finished."""
        count = 0
        while self._layer(count).exists():
            count += 1
        return count

    @property
    def is_finished(self) -> bool:
        return self._head.exists()

    def streams(self, layer: int, width: int) -> Streams:
        """The states before `layer`."""
        return Streams.at(self.directory, f"{layer:05d}", width)

    def finish_layer(self, index: int, name: str, chosen: Chosen, after: Streams) -> None:
        """Keep `chosen`; from here on the calibration goes on after this layer."""
        arrays = {
            f"{name}.{matrix}.{part}": array
            for matrix, parts in chosen.matrices.items()
            for part, array in parts.items()
        }
        arrays |= {f"{name}.{vector}": value.numpy() for vector, value in chosen.vectors.items()}
        for states in after:
            states.sync()
        self._write(self._layer(index), arrays)
        for states in self.streams(index, after.original.width):
            states.path.unlink()

    def finish(self, arrays: Stored) -> None:
        """The calibration is whole; the states are not needed any more."""
        self._write(self._head, arrays)
        for path in self.directory.iterdir():
            if path.suffix in (".original", ".quantized"):
                path.unlink()

    def layer(self, index: int) -> Stored:
        stored: Stored = load_file(self._layer(index))
        return stored

    def head(self) -> Stored:
        stored: Stored = load_file(self._head)
        return stored

    @property
    def _head(self) -> Path:
        return self.directory / "head.safetensors"

    def _layer(self, index: int) -> Path:
        return self.directory / f"layer-{index:05d}.safetensors"

    def _write(self, path: Path, arrays: Stored) -> None:
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        partial = path.with_suffix(".partial")
        write_file(partial, save(whole))
        os.replace(partial, path)
        sync_directory(self.directory)

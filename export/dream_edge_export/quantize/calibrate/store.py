"""The finished part of a calibration: a file for each layer, and the states that the next one starts from.

key                     of which work this is
layer-00007.safetensors what the artifact stores of a layer, under its names there, and the largest values of its MLP;
                        renamed when whole
00008.original          states before a layer, in the original network
00008.quantized         and in the one quantized so far
head.safetensors        the last norm, and what the columns of lm_head are multiplied by
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from dream_edge_runtime.files.writing import remove_tree, replace_file, write_file
from dream_edge_runtime.format.tensors import NORM, layer_name

from .layer import Chosen, Streams

_KEY = "key"
_LAYERS = "model.layers."
_COLUMNS = "lm_head.columns"
_LARGEST = "mlp.largest"


class Store:
    """The directory of one calibration. Make one with `Store.open`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def open(cls, directory: Path, key: str) -> Store:
        """Keep what an earlier run of the work `key` has left, and remove anything else."""
        if not cls.is_of(directory, key):
            remove_tree(directory)
            directory.mkdir()
            write_file(directory / _KEY, key.encode())
        for left in directory.glob(".*.partial"):  # by a run that was killed
            left.unlink()
        return cls(directory)

    @staticmethod
    def is_of(directory: Path, key: str) -> bool:
        """Whether an earlier run of the work `key` has left something there."""
        name = directory / _KEY
        return name.is_file() and name.read_text("utf-8") == key

    @property
    def layers(self) -> int:
        """The number of finished layers."""
        count = 0
        while self._layer(count).exists():
            count += 1
        return count

    @property
    def is_finished(self) -> bool:
        """Whether the calibration is whole."""
        return self._head.exists()

    def streams(self, layer: int, width: int) -> Streams:
        """The states before `layer`."""
        return Streams.at(self.directory, f"{layer:05d}", width)

    def finish_layer(self, index: int, name: str, chosen: Chosen, after: Streams) -> None:
        """Keep `chosen`; from now on the calibration resumes after this layer."""
        arrays = {
            f"{name}.{matrix}.{part}": array
            for matrix, parts in chosen.matrices.items()
            for part, array in parts.items()
        }
        arrays |= {f"{name}.{vector}": value.numpy() for vector, value in chosen.vectors.items()}
        arrays[f"{name}.{_LARGEST}"] = chosen.largest.numpy()
        for states in after:
            states.sync()
        self._write(self._layer(index), arrays)
        for states in self.streams(index, after.original.width):
            states.path.unlink()

    def finish(self, norm: Tensor, head_columns: Tensor) -> None:
        """The calibration is whole: the last norm [hidden], and what lm_head's columns are multiplied by [hidden]."""
        self._write(self._head, {NORM: norm.numpy(), _COLUMNS: head_columns.numpy()})
        for path in self.directory.iterdir():
            if path.suffix in (".original", ".quantized"):
                path.unlink()

    @property
    def stored_bytes(self) -> int:
        """Bytes that are kept so far."""
        return sum(path.stat().st_size for path in self.directory.iterdir())

    def holds(self, name: str) -> bool:
        """Whether the weight `name` has been chosen here."""
        return name == NORM or name.startswith(_LAYERS)

    def tensor(self, name: str) -> NDArray[np.generic]:
        """One of the artifact's tensors that `holds` says are here."""
        path = self._head if name == NORM else self._layer(int(name.removeprefix(_LAYERS).partition(".")[0]))
        return _read(path, name)

    def head_columns(self) -> NDArray[np.float32]:
        """What lm_head's columns are multiplied by [hidden]."""
        return _read(self._head, _COLUMNS).astype(np.float32, copy=False)

    def largest_values(self) -> dict[str, float]:
        """The largest magnitudes in the MLPs of all layers: where fp16, in which CUDA multiplies, might end."""
        layers = [_read(self._layer(index), f"{layer_name(index)}.{_LARGEST}") for index in range(self.layers)]
        activated, product = np.max(layers, axis=0)
        return {"silu_gate_up": float(activated), "down_proj": float(product)}

    @property
    def _head(self) -> Path:
        return self.directory / "head.safetensors"

    def _layer(self, index: int) -> Path:
        return self.directory / f"layer-{index:05d}.safetensors"

    def _write(self, path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        with replace_file(path) as file:
            file.write(save(whole))


def _read(path: Path, name: str) -> NDArray[np.generic]:
    with safe_open(path, "numpy") as file:
        found: NDArray[np.generic] = file.get_tensor(name)
    return found

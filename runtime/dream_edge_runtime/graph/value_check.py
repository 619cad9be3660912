"""Looks for weights that are not finite numbers: such a model loads, runs and answers nonsense."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import CorruptArtifact
from ..files.regular import open_regular
from .onnx_reader import OnnxGraph

_CHUNK = 1 << 20
_FLOATS = {"float16": "<f2", "float32": "<f4"}


def check_values(directory: Path, graph: OnnxGraph) -> None:
    """Read the floating-point weights of a checked graph (of 4- and 8-bit formats: scales, biases and norms).

    Raises CorruptArtifact, naming the file and the weight.
    """
    weights = [item for item in graph.initializers if item.location is not None and item.dtype in _FLOATS]
    for location in sorted({str(item.location) for item in weights}):
        path = directory / location
        with open_regular(path) as file:
            for item in (each for each in weights if each.location == location):
                file.seek(item.offset)
                left = item.length
                while left:
                    data = file.read(min(_CHUNK, left))
                    left -= len(data)
                    if not data or (left and len(data) < _CHUNK):
                        raise CorruptArtifact(path, f"ends within {item.name}")
                    if not np.isfinite(np.frombuffer(data, _FLOATS[item.dtype])).all():
                        raise CorruptArtifact(path, f"{item.name} holds NaN or infinite values")

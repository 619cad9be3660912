"""How many bytes a model takes, counted the same way for every format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Formats
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, parameter_count, stored_shapes


@dataclass(frozen=True)
class Stored:
    """Bytes of one model.

    Attributes:
        file: of all its files: weights, vocabulary, graph, metadata.
        weights: of every matrix, bias and norm, with scales and zero points.
        body: of the matrices of the layers alone, with theirs.
    """

    file: int
    weights: int
    body: int

    def bits(self, config: ModelConfig) -> Bits:
        every, body = parameter_count(config), body_count(config)
        return Bits(8 * self.file / every, 8 * self.weights / every, 8 * self.body / body)


@dataclass(frozen=True)
class Bits:
    """Bits per weight: `file` and `weights` over all parameters, `body` over those of the layers' matrices."""

    file: float
    weights: float
    body: float


def body_names(config: ModelConfig) -> list[str]:
    """The matrices of the layers."""
    return [name for name in stored_shapes(config) if name not in (EMBEDDING, LM_HEAD)]


def body_count(config: ModelConfig) -> int:
    shapes = stored_shapes(config)
    return sum(shapes[name][0] * shapes[name][1] for name in body_names(config))


def of_tensors(sizes: Mapping[str, int], file: int, config: ModelConfig) -> Stored:
    """From the bytes of each tensor, by its name in the checkpoint."""
    return Stored(file, sum(sizes.values()), sum(sizes[f"{name}.weight"] for name in body_names(config)))


def of_formats(formats: Formats, file: int, config: ModelConfig) -> Stored:
    """What one of our recipes stores."""
    shapes = stored_shapes(config)
    body = sum(formats.of(name).stored_bytes(*shapes[name]) for name in body_names(config))
    return Stored(file, formats.stored_bytes(config), body)


def of_bits(body: float, rest: float, config: ModelConfig) -> Stored:
    """From the bits of each weight: of the layers' matrices, and of everything else."""
    every, inside = parameter_count(config), body_count(config)
    total = round((body * inside + rest * (every - inside)) / 8)
    return Stored(total, total, round(body * inside / 8))

"""Keys and values that a pass computed, kept for later passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .config import ModelConfig
from .devices import import_onnxruntime


@dataclass(frozen=True)
class OnnxKeyValues:
    """Where ONNX Runtime left them: of each layer in turn keys and values, [batch, kv_heads, positions, head_dim]."""

    values: list[Any]
    """Tensors of ONNX Runtime."""

    @classmethod
    def none(cls, config: ModelConfig, batch: int, dtype: npt.DTypeLike) -> OnnxKeyValues:
        """Of no positions."""
        empty = np.zeros((batch, config.num_key_value_heads, 0, config.head_dim), dtype)
        tensor = import_onnxruntime().OrtValue.ortvalue_from_numpy(empty)
        return cls([tensor] * (2 * config.num_hidden_layers))


def key_value_names(kind: str, config: ModelConfig) -> list[str]:
    """The graph's inputs ("past") or outputs ("present") in the order of `OnnxKeyValues`."""
    layers = range(config.num_hidden_layers)
    return [f"{kind}_key_values.{index}.{part}" for index in layers for part in ("key", "value")]

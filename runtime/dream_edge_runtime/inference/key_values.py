"""Keys and values that a pass computed, kept for later passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..format.model_config import ModelConfig
from ..format.recipe import Target
from .devices import import_onnxruntime


@dataclass(frozen=True)
class OnnxKeyValues:
    """Where ONNX Runtime left them: of each layer in turn keys and values, [batch, kv_heads, positions, head_dim]."""

    values: list[Any]
    """Tensors of ONNX Runtime, in the memory of the device that computed them."""

    @classmethod
    def none(cls, config: ModelConfig, batch: int, dtype: npt.DTypeLike, device: Target) -> OnnxKeyValues:
        """Of no positions."""
        shape = [batch, config.num_key_value_heads, 0, config.head_dim]
        tensor = import_onnxruntime().OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(dtype).type, device, 0)
        return cls([tensor] * (2 * config.num_hidden_layers))


def key_value_names(kind: str, config: ModelConfig) -> list[str]:
    """The graph's inputs ("past") or outputs ("present") in the order of `OnnxKeyValues`."""
    layers = range(config.num_hidden_layers)
    return [f"{kind}_key_values.{index}.{part}" for index in layers for part in ("key", "value")]

"""How much memory a model is going to need, from its geometry and recipe alone."""

from __future__ import annotations

from dataclasses import dataclass

from .config import ModelConfig
from .recipe import EMBEDDING, Formats, WeightFormat, matrix_shapes, vector_sizes

CANVAS = 512
"""Tokens of the canvas the estimate is for, unless the context is shorter."""

# ONNX Runtime packs the weights of its 4- and 8-bit kernels when a model is loaded. Measured with version 1.31.1:
# 0.89 bytes a weight for 4 bits in groups of 32, 0.60 in groups of 128, so half a byte and 12.5 bytes a group.
_BYTES_PER_PACKED_GROUP = 12.5


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes."""

    weights: int
    """Once loaded."""
    working: int
    """More, during a pass over `CANVAS` tokens that asks for all their logits."""

    @property
    def total(self) -> int:
        return self.weights + self.working


def estimate_memory(config: ModelConfig, formats: Formats) -> MemoryEstimate:
    """What loading and running takes, without the interpreter and its libraries (about 0.1 GB)."""
    weights = sum(
        _loaded_bytes(name, formats.of(name), rows * columns) for name, (rows, columns) in matrix_shapes(config).items()
    )
    tokens = min(CANVAS, config.context)
    attention = config.num_attention_heads * tokens * tokens
    logits = tokens * config.vocab_size
    layer = tokens * (4 * config.hidden_size + 3 * config.intermediate_size)
    # of the logits there are four at once: as they are, scaled, exponentiated and as probabilities
    return MemoryEstimate(
        weights=int(weights) + 4 * sum(vector_sizes(config).values()),
        working=4 * (max(attention, 4 * logits) + layer),
    )


def _loaded_bytes(name: str, weights: WeightFormat, count: int) -> float:
    if name == EMBEDDING:  # looked up where it lies, not packed
        return (1.0 + 2 / weights.block_size if weights.kind == "block" else weights.bits / 8) * count
    if weights.kind == "float":  # fp16 is widened when the graph is loaded
        return 4.0 * count
    if weights.kind == "row":
        return 1.0 * count
    if weights.kind == "nf4":  # not packed
        return (0.5 + 4 / weights.block_size) * count
    return (weights.bits / 8 + _BYTES_PER_PACKED_GROUP / weights.block_size) * count

"""How much memory a model is going to need, from its geometry and recipe alone."""

from __future__ import annotations

from dataclasses import dataclass

from .model_config import ModelConfig
from .recipe import HALF, Formats, WeightFormat
from .tensors import EMBEDDING, matrix_shapes, vector_sizes

CANVAS = 512
"""Tokens of the canvas the estimate is for, unless the context is shorter."""

# ONNX Runtime packs the weights of its 4- and 8-bit kernels when a model is loaded. Measured with version 1.31.1:
# 0.89 bytes a weight for 4 bits in groups of 32, 0.60 in groups of 128, so half a byte and 12.5 bytes a group.
_BYTES_PER_PACKED_GROUP = 12.5


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes, without the interpreter and its libraries (about 0.1 GB)."""

    weights: int
    """Once loaded. An embedding is read where it lies: of its pages only those of the looked-up rows are ever held."""
    loading: int
    """More, at the worst moment of loading."""
    working: int
    """More, during a pass."""

    @property
    def total(self) -> int:
        """At the worst moment of all."""
        return self.weights + max(self.loading, self.working)


def estimate_memory(
    config: ModelConfig, formats: Formats, *, canvas: int = CANVAS, rows: int | None = None
) -> MemoryEstimate:
    """What loading takes, and a pass over `canvas` tokens that asks for the logits of `rows` of them; None = of all."""
    matrices = [(name, formats.of(name), *shape) for name, shape in matrix_shapes(config).items()]
    weights = sum(_loaded_bytes(name, format_, outputs * inputs) for name, format_, outputs, inputs in matrices)
    # a matrix is mapped until it is packed, and one at a time; what is turned round is there twice
    loading = max(
        (1 + format_.table) * format_.stored_bytes(outputs, inputs)
        for name, format_, outputs, inputs in matrices
        if name != EMBEDDING
    )
    # fp16 is widened first, all of it, and stays in fp32 until it is packed
    loading += sum(
        4 * outputs * inputs for name, format_, outputs, inputs in matrices if name != EMBEDDING and format_ == HALF
    )
    tokens = min(canvas, config.context)
    asked = tokens if rows is None else min(rows, tokens)
    attention = config.num_attention_heads * tokens * tokens
    layer = tokens * (4 * config.hidden_size + 3 * config.intermediate_size)
    # of the logits there are four at once: as they are, scaled, exponentiated and as probabilities
    return MemoryEstimate(
        weights=int(weights) + 4 * sum(vector_sizes(config).values()),
        loading=loading,
        working=4 * (max(attention, 4 * asked * config.vocab_size) + layer),
    )


def _loaded_bytes(name: str, weights: WeightFormat, count: int) -> float:
    if name == EMBEDDING:  # looked up where it lies; the scales are widened
        return 4 / weights.block_size * count if weights.kind == "block" else 0
    if weights.kind == "float":  # fp16 is widened when the graph is loaded
        return 4.0 * count
    if weights.kind == "row":
        return 1.0 * count
    if weights.kind == "nf4":  # not packed
        return (0.5 + 4 / weights.block_size) * count
    return (weights.bits / 8 + _BYTES_PER_PACKED_GROUP / weights.block_size) * count

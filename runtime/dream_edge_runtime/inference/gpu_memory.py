"""How much of a GPU's memory a model is going to need, computed from what ONNX Runtime's kernels ask for."""

from __future__ import annotations

from ..format.memory import CANVAS, MemoryEstimate
from ..format.model_config import ModelConfig
from ..format.recipe import Formats, WeightFormat
from ..format.tensors import EMBEDDING, LM_HEAD, matrix_shapes, vector_sizes
from .cuda import multiplies_packed

BLOCK = 256
"""Rows of logits that the estimate is for, unless the canvas is shorter: of the tokens that a step may reveal."""

CONTEXT = 500_000_000
"""Bytes of CUDA's context, loaded kernels and cuBLAS's workspaces: an allowance."""
_SLACK = 1.25  # for an arena whose pieces do not fit each other: an allowance
_PROFILED_TOKENS = 2048  # kernels for packed weights are chosen by trying them with as many
_CHUNK = 32768  # outputs of a large matrix that are expanded at once
_LARGE = 256 << 20


def estimate_gpu_memory(
    config: ModelConfig, formats: Formats, *, canvas: int = CANVAS, rows: int = BLOCK
) -> MemoryEstimate:
    """What loading takes, and a pass over `canvas` tokens that asks for the logits of `rows` of them."""
    matrices = [(name, formats.of(name), *shape) for name, shape in matrix_shapes(config).items()]
    tokens = min(canvas, config.context)
    loading = max(
        (_repacking_bytes(format_, *shape) for name, format_, *shape in matrices if name != EMBEDDING), default=0
    )
    products = [each for each in matrices if each[0] not in (EMBEDDING, LM_HEAD)]
    layer = max(_attention_bytes(config, tokens), _mlp_bytes(config, tokens)) + max(
        _copy_bytes(*each[1:]) for each in products
    )
    # of the logits there are four at once: as they are, divided by the temperature, as probabilities, as logarithms
    head = max(
        16 * min(rows, tokens) * config.vocab_size, _copy_bytes(formats.lm_head, config.vocab_size, config.hidden_size)
    )
    working = _cache_bytes(config, tokens) + 10 * tokens * config.hidden_size + max(layer, head)
    return MemoryEstimate(
        weights=sum(_loaded_bytes(*each) for each in matrices) + 4 * sum(vector_sizes(config).values()) + CONTEXT,
        loading=loading,
        working=int(_SLACK * working),
    )


def _loaded_bytes(name: str, weights: WeightFormat, outputs: int, inputs: int) -> int:
    """Bytes of a loaded matrix: as it is stored, but that an embedding's scales are widened and NF4's narrowed."""
    stored = weights.stored_bytes(outputs, inputs)
    if name == EMBEDDING and weights.kind == "block":
        return stored + 2 * outputs * weights.blocks(inputs)
    return stored - 2 * weights.blocks(outputs * inputs) if weights.kind == "nf4" else stored


def _repacking_bytes(weights: WeightFormat, outputs: int, inputs: int) -> int:
    """Bytes while a matrix is loaded: it is turned round and repacked, and its kernel chosen by trying."""
    if not multiplies_packed(weights, outputs, inputs):
        return 0
    stored = weights.stored_bytes(outputs, inputs)
    return max(2 * stored, stored + 2 * _PROFILED_TOKENS * (outputs + inputs))


def _copy_bytes(weights: WeightFormat, outputs: int, inputs: int) -> int:
    """Bytes of the fp16 copy that a product makes of a matrix for itself."""
    if weights.kind == "float" or multiplies_packed(weights, outputs, inputs):
        return 0
    whole = 2 * outputs * inputs
    in_chunks = weights.kind == "block" and whole > _LARGE and outputs > 2 * _CHUNK
    return 2 * _CHUNK * inputs if in_chunks else whole


def _attention_bytes(config: ModelConfig, tokens: int) -> int:
    """Queries, keys and values in fp32 and fp16, keys and values repeated for each head, scores in fp32 and fp16."""
    scores = 6 * config.num_attention_heads * tokens * tokens
    return scores + 3 * tokens * tokens + tokens * (14 * config.hidden_size + 12 * config.kv_size)


def _mlp_bytes(config: ModelConfig, tokens: int) -> int:
    return 4 * 2 * tokens * config.intermediate_size


def _cache_bytes(config: ModelConfig, tokens: int) -> int:
    """Keys and values of all layers, of the pass before and of this one."""
    return 2 * config.num_hidden_layers * 2 * config.kv_size * 2 * tokens

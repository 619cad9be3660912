"""How much memory a model needs where it runs, and the refusal of one that the free memory cannot hold.

What a GPU needs is computed from what ONNX Runtime's kernels ask for; for a CPU see `format.memory`.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import TooLittleMemory
from ..format.manifest import Manifest
from ..format.memory import CANVAS, MemoryEstimate, estimate_memory
from ..format.model_config import ModelConfig
from ..format.recipe import Formats, Recipe, Target, WeightFormat
from ..format.tensors import EMBEDDING, LM_HEAD, matrix_groups, matrix_shapes, vector_sizes
from ..host import free_gpu_memory, free_memory
from .cuda import multiplies_packed

BLOCK = 256
"""Rows of logits that the GPU's estimate is for, unless the canvas is shorter: of tokens that a step may reveal."""

_CHECKED_CANVAS = 256  # tokens for whose pass there must be memory on a CPU
_CONTEXT = 500_000_000  # bytes of CUDA's context, loaded kernels and cuBLAS's workspaces: an allowance
_SLACK = 1.25  # for an arena whose pieces do not fit each other: an allowance
_PROFILED_TOKENS = 2048  # kernels for packed weights are chosen by trying them with as many
_CHUNK = 32768  # outputs of a large matrix that are expanded at once
_LARGE = 256 << 20


def check_memory(path: Path, manifest: Manifest, target: Target, device: Target = "cpu") -> None:
    """Raises TooLittleMemory where less is free on `device` than the graph for `target` needs, loading or running."""
    config, on_cuda = manifest.config, device == "cuda"

    def estimate(formats: Formats) -> int:
        if on_cuda:
            return estimate_gpu_memory(config, formats).total - _CONTEXT  # it exists already
        return estimate_memory(config, formats, canvas=_CHECKED_CANVAS).total

    needed, free = estimate(manifest.recipe.targets[target]), free_gpu_memory() if on_cuda else free_memory()
    if free is None or needed <= free:
        return
    sizes = {}
    for scheme in ("int8", "mixed", "int4"):
        recipe = Recipe.for_scheme(scheme, target=target, layers=config.num_hidden_layers)
        sizes[scheme] = estimate(recipe.targets[target])
    fitting = {scheme: size for scheme, size in sizes.items() if size < free}
    raise TooLittleMemory(path, needed, free, fitting, on_gpu=on_cuda, has_cpu_graph="cpu" in manifest.graphs)


def estimate_gpu_memory(
    config: ModelConfig, formats: Formats, *, canvas: int = CANVAS, rows: int = BLOCK
) -> MemoryEstimate:
    """What loading takes, and a pass over `canvas` tokens that asks for the logits of `rows` of them."""
    shapes, tokens = matrix_shapes(config), min(canvas, config.context)
    products = {
        names: (formats.of(names[0]), sum(shapes[name][0] for name in names), shapes[names[0]][1])
        for group in matrix_groups(config)
        for names in formats.products(group, joined=True)
        if names != (EMBEDDING,)
    }
    loaded = sum(_loaded_bytes(name, formats.of(name), *shape) for name, shape in shapes.items())
    loading = max(_repacking_bytes(*product) for product in products.values())
    copies = {names[0]: _copy_bytes(*product) for names, product in products.items()}
    mlp = 4 * 2 * tokens * config.intermediate_size
    layer = max(_attention_bytes(config, tokens), mlp) + max(copies[name] for name in copies.keys() - {LM_HEAD})
    # of the logits there are four at once: as they are, divided by the temperature, as probabilities, as logarithms
    head = max(16 * min(rows, tokens) * config.vocab_size, copies[LM_HEAD])
    # hidden states and norms, sines and cosines of each head's angles
    stream = tokens * (10 * config.hidden_size + 4 * (config.hidden_size + 2 * config.kv_size))
    # keys and values of all layers, of the pass before and of this one
    cache = 2 * config.num_hidden_layers * 2 * config.kv_size * 2 * tokens
    return MemoryEstimate(
        weights=loaded + 4 * sum(vector_sizes(config).values()) + _CONTEXT,
        loading=loading,
        working=int(_SLACK * (cache + stream + max(layer, head))),
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

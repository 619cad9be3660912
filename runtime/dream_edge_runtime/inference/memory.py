"""How much memory a model needs where it runs, and the refusal of one that the free memory cannot hold.

What a GPU needs is computed from what ONNX Runtime's kernels ask for; for a CPU see `format.memory`.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import TooLittleMemory
from ..format.layout import Place, product_places
from ..format.manifest import Manifest
from ..format.memory import CANVAS, MemoryEstimate, estimate_memory
from ..format.model_config import ModelConfig
from ..format.recipe import Recipe, Target, WeightFormat
from ..format.tensors import EMBEDDING, LM_HEAD, matrix_groups, matrix_shapes, weight_of
from ..host import free_gpu_memory, free_memory
from .cuda import TRIED_ROWS, multiplies_packed

BLOCK = 256
"""Rows of logits that the GPU's estimate is for, unless the canvas is shorter: of tokens that a step may reveal."""

_CHECKED_CANVAS, _CHECKED_ROWS = 256, 128  # tokens of a pass for which there must be memory on a CPU; of their logits
CONTEXT = 500_000_000  # bytes of CUDA's context, loaded kernels and cuBLAS's workspaces: an allowance
_SLACK = 1.25  # for an arena whose pieces do not fit each other: an allowance
_PAGE = 2 << 20  # what the driver gives, of which pieces up to half of it share one
_CHUNK = 32768  # outputs of a large matrix that are expanded at once
_LARGE = 256 << 20


def check_memory(path: Path, manifest: Manifest, target: Target, device: Target = "cpu") -> None:
    """Raises TooLittleMemory where less is free on `device` than the graph for `target` needs, loading or running."""
    config, on_cuda = manifest.config, device == "cuda"

    def estimate(recipe: Recipe) -> int:
        if on_cuda:
            return estimate_gpu_memory(config, recipe).total - CONTEXT  # it exists already
        return estimate_memory(config, recipe.targets[target], canvas=_CHECKED_CANVAS, rows=_CHECKED_ROWS).total

    needed, free = estimate(manifest.recipe), free_gpu_memory() if on_cuda else free_memory()
    if free is None or needed <= free:
        return
    sizes = {}
    for scheme in ("int8", "mixed", "int4"):
        recipe = Recipe.for_scheme(scheme, target=target, layers=config.num_hidden_layers).fit(config)
        sizes[scheme] = estimate(recipe)
    fitting = {scheme: size for scheme, size in sizes.items() if size < free}
    raise TooLittleMemory(path, needed, free, fitting, on_gpu=on_cuda, has_cpu_graph="cpu" in manifest.graphs)


def estimate_gpu_memory(
    config: ModelConfig, recipe: Recipe, *, canvas: int = CANVAS, rows: int = BLOCK
) -> MemoryEstimate:
    """What loading takes, and a pass over `canvas` tokens that asks for the logits of `rows` of them."""
    shapes, tokens, formats = matrix_shapes(config), min(canvas, config.context), recipe.targets["cuda"]
    products = {
        names: (formats.of(names[0]), sum(shapes[name][0] for name in names), shapes[names[0]][1])
        for group in matrix_groups(config)
        for names in formats.products(group, recipe.joined)
        if names != (EMBEDDING,)
    }
    places = product_places(config, recipe, "cuda")
    if config.tie_word_embeddings and formats.lm_head.kind == "float":  # looked up and multiplied as it is
        del places[weight_of(LM_HEAD)]
    # every weight is an allocation of its own, so that each ends with a part of a page that nothing uses
    loaded = sum(_in_pages(_loaded_bytes(place)) for place in places.values())
    copies = {names: _copy_bytes(*product) for names, product in products.items()}
    # of gate and up: both together, each by itself, their product
    layer = max(_attention_bytes(config, tokens), 5 * 2 * tokens * config.intermediate_size)
    layer += sum({copies[names] for names in copies if names != (LM_HEAD,)})  # one of each size stays in the arena
    # keys and values of all layers: of the pass before, and of this one, which come twice while they are appended
    layer += 3 * config.num_hidden_layers * 2 * config.kv_size * 2 * tokens
    # hidden states and norms, sines and cosines of each head's angles
    layer += tokens * (10 * config.hidden_size + 4 * (config.query_size + 2 * config.kv_size))
    # of the logits there are five at once: those of the pass before, and of this one as they are, divided by the
    # temperature, as probabilities, as logarithms
    asked = min(rows, tokens)
    head = max(20 * asked * config.vocab_size, copies[LM_HEAD,])
    trial = _trial_bytes(*products[LM_HEAD,], asked) + 2 * asked * config.vocab_size
    return MemoryEstimate(
        weights=loaded + CONTEXT,
        loading=max(_repacking_bytes(*product) for product in products.values()),
        working=int(_SLACK * layer + max(trial, _SLACK * head)),
    )


def _in_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE if size > _PAGE // 2 else size


def _loaded_bytes(place: Place) -> int:
    """Bytes of a loaded tensor: as it is stored, but that an embedding's scales are widened and NF4's narrowed."""
    if place.spec.name == f"{EMBEDDING}.scales":
        return 2 * place.size
    return place.size // 2 if place.spec.name.endswith(".absmax") else place.size


def _repacking_bytes(weights: WeightFormat, outputs: int, inputs: int) -> int:
    """Bytes while a matrix is loaded: it is turned round and repacked."""
    return 2 * _in_pages(outputs * inputs * weights.bits // 8) if multiplies_packed(weights, outputs, inputs) else 0


def _trial_bytes(weights: WeightFormat, outputs: int, inputs: int, rows: int) -> int:
    """Bytes in which the kernels of a matrix are tried in a pass: for more rows than they were when it was loaded."""
    if rows <= TRIED_ROWS or not multiplies_packed(weights, outputs, inputs):
        return 0
    scales = 2 * outputs * weights.blocks(inputs)
    return weights.stored_bytes(outputs, inputs) + scales + 2 * (1 << (rows - 1).bit_length()) * (outputs + inputs)


def _copy_bytes(weights: WeightFormat, outputs: int, inputs: int) -> int:
    """Bytes of the fp16 copy that a product makes of a matrix for itself."""
    if weights.kind == "float" or multiplies_packed(weights, outputs, inputs):
        return 0
    whole = 2 * outputs * inputs
    in_chunks = weights.kind == "block" and whole > _LARGE and outputs > 2 * _CHUNK
    return 2 * _CHUNK * inputs if in_chunks else whole


def _attention_bytes(config: ModelConfig, tokens: int) -> int:
    """Queries, keys and values in fp32 and fp16, keys and values repeated for each head, the mask."""
    return 3 * tokens * tokens + tokens * (14 * config.query_size + 12 * config.kv_size)

"""Quantize a network layer by layer, each with the inputs that the layers before it, quantized already, give it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace

import torch

from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.layout import Weight
from dream_edge_runtime.format.recipe import Formats, Recipe
from dream_edge_runtime.format.tensors import LM_HEAD, NORM, layer_name, weight_of

from ...checkpoint.checkpoint import Checkpoint
from ...reference.layerwise import embed, load_layer, make_batches, normalize
from ..grid import round_weights
from ..weights import Part, encode_weight
from .costs import count_layer_work
from .folding import Activity, choose_strength, find_scales
from .inputs import CalibrationSet
from .layer import Advance, LayerCalibration
from .store import Store

OnLayers = Callable[[float, str], None]
"""Called with how many layers are done, in fractions, and the name of the one in work.

The first call says where a resumed calibration continues.
"""


def check_calibration(recipe: Recipe) -> None:
    """Raises InvalidOption where there is nothing to round, or two graphs would want one γ to differ."""
    if len(recipe.targets) > 1:
        raise InvalidOption("calibrate", "target all", "is for one target at a time: export each by itself")
    for formats in recipe.targets.values():
        if "float" in (formats.body.kind, *(each.kind for each in formats.overrides.values())):
            raise InvalidOption("calibrate", recipe.scheme, "rounds to 4 or 8 bits: use int8, int4, mixed or nf4")


def name_rounding(recipe: Recipe, calibration: CalibrationSet) -> Recipe:
    """`recipe` with the name of this rounding; InvalidOption as `check_calibration`."""
    check_calibration(recipe)
    return replace(recipe, rounding=f"gptq ({calibration})")


def calibrate(
    checkpoint: Checkpoint,
    recipe: Recipe,
    calibration: CalibrationSet,
    store: Store,
    progress: OnLayers = lambda _done, _layer: None,
) -> None:
    """Choose the numbers of every layer, resuming after what `store` holds; states and results lie there.

    The same input gives the same numbers as long as PyTorch computes with as many threads.

    Raises: CheckpointError, OSError.
    """
    config = checkpoint.config
    (formats,) = recipe.targets.values()
    batches = make_batches(calibration.canvases, config, pad=False)
    if store.is_finished:
        return
    first = store.layers
    progress(first, "")
    with torch.inference_mode():
        if not first:
            streams = store.streams(0, config.hidden_size)
            for batch in batches:
                rows = embed(checkpoint, batch.ids)
                streams.original.append(batch, rows)
                streams.quantized.append(batch, _round_embedding(rows, formats))
        for index in range(first, config.num_hidden_layers):
            name = layer_name(index)
            layer = LayerCalibration(
                load_layer(checkpoint, index),
                name,
                config,
                formats,
                batches,
                store.directory,
                _scale_progress(index, count_layer_work(config, calibration.tokens), name, progress),
            )
            after = store.streams(index + 1, config.hidden_size)
            chosen = layer.run(store.streams(index, config.hidden_size), after)
            store.finish_layer(index, name, chosen, after)
            del layer, chosen
        activity = Activity()
        original = store.streams(config.num_hidden_layers, config.hidden_size).original
        for batch in batches:
            activity.see(normalize(checkpoint, original.read(batch)))
        columns = torch.ones(config.hidden_size)
        if not config.tie_word_embeddings:  # which has no norm before it that would make up for other columns
            head = _measure_head_columns(checkpoint)
            columns = find_scales(activity.largest, [head], choose_strength(formats.lm_head))
        gamma = checkpoint.tensor(NORM).float() / columns
    store.finish(gamma, columns)


def _scale_progress(index: int, total: float, name: str, progress: OnLayers) -> Advance:
    """Turn the work done in layer `index` into layers."""
    done = 0.0

    def advance(work: float) -> None:
        nonlocal done
        done += work
        progress(index + min(done / total, 1.0), name)

    return advance


def _round_embedding(rows: torch.Tensor, formats: Formats) -> torch.Tensor:
    """Rows of the embedding as the artifact will hold them."""
    if formats.embedding.kind == "float":
        return rows
    return round_weights(rows.flatten(0, -2), formats.embedding).view_as(rows)


def _measure_head_columns(checkpoint: Checkpoint) -> torch.Tensor:
    """One row [1, hidden] whose values are as large as lm_head's columns, in the sense of `folding.find_scales`."""
    name = weight_of(LM_HEAD)
    outputs, inputs = checkpoint.shape(name)
    squares, step = torch.zeros(inputs), max(1, (1 << 26) // inputs)
    for start in range(0, outputs, step):
        rows = checkpoint.rows(name, start, min(start + step, outputs)).float().square()
        squares += (rows / rows.mean(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)).sum(dim=0)
    return (squares / outputs).sqrt()[None]


def encode_calibrated(checkpoint: Checkpoint, store: Store, weight: Weight, pool: Executor) -> Iterator[Part]:
    """As `weights.encode_weight`, with the numbers that `store` holds; embedding and lm_head are rounded to nearest."""
    if store.holds(weight.name):
        return ((spec.name, store.tensor(spec.name)) for spec in weight.specs)
    columns = torch.from_numpy(store.head_columns()) if weight.name == LM_HEAD else None
    return encode_weight(checkpoint, weight, pool, columns)

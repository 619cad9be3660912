"""Quantize a network layer by layer, each with the inputs that the layers before it, quantized already, give it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from dream_edge_runtime.config import ModelConfig
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.recipe import LM_HEAD, Formats, Recipe

from ..checkpoint import Checkpoint
from ..quantize import Grid
from ..streaming import embed, load_layer, norm
from .folding import Activity, smoothing
from .inputs import CalibrationSet
from .layer import LayerCalibration
from .store import Store

NORM = "model.norm.weight"
HEAD_COLUMNS = "lm_head.columns"


@dataclass(frozen=True)
class CalibrationProgress:
    """Multiply-adds done so far, of how many, and what they are for. The first one says where a resumed one goes on."""

    done: float
    total: float
    layer: str


Progress = Callable[[CalibrationProgress], None]


def check_calibration(recipe: Recipe) -> None:
    """Raises InvalidOption where there is nothing to round, or two graphs would want one γ to differ."""
    if len(recipe.targets) > 1:
        raise InvalidOption("calibrate", "target all", "is for one target at a time: export each by itself")
    for formats in recipe.targets.values():
        if "float" in (formats.body.kind, *(each.kind for each in formats.overrides.values())):
            raise InvalidOption("calibrate", recipe.scheme, "rounds to 4 or 8 bits: use int8, int4, mixed or nf4")


def calibrate(
    checkpoint: Checkpoint, recipe: Recipe, calibration: CalibrationSet, store: Store, progress: Progress
) -> None:
    """Choose the numbers of every layer, going on with what `store` holds; states and results lie there.

    The same input gives the same numbers as long as PyTorch computes with as many threads.

    Raises: CheckpointError, OSError.
    """
    config = checkpoint.config
    (formats,) = recipe.targets.values()
    batches = list(calibration.batches())
    total, done = config.num_hidden_layers * work_of_layer(config, calibration.tokens), 0.0
    if store.is_finished:
        return
    first = store.layers
    done = first * work_of_layer(config, calibration.tokens)
    progress(CalibrationProgress(done, total, ""))
    with torch.inference_mode():
        if not first:
            streams = store.streams(0, config.hidden_size)
            for batch in batches:
                rows = embed(checkpoint, batch.ids)
                streams.original.append(batch, rows)
                streams.quantized.append(batch, _stored(rows, formats))
        for index in range(first, config.num_hidden_layers):
            name = f"model.layers.{index}"

            def advance(work: float, name: str = name) -> None:
                nonlocal done
                done += work
                progress(CalibrationProgress(done, total, name))

            layer = LayerCalibration(
                load_layer(checkpoint, index), name, config, formats, batches, store.directory, advance
            )
            after = store.streams(index + 1, config.hidden_size)
            chosen = layer.run(store.streams(index, config.hidden_size), after)
            store.finish_layer(index, name, chosen, after)
            del layer, chosen
        activity = Activity()
        original = store.streams(config.num_hidden_layers, config.hidden_size).original
        for batch in batches:
            activity.see(norm(checkpoint, original.read(batch)))
        columns = smoothing(activity.largest, [_largest_columns(checkpoint)])
        gamma = checkpoint.tensor(NORM).float() / columns
    store.finish({NORM: gamma.numpy(), HEAD_COLUMNS: columns.numpy()})


def work_of_layer(config: ModelConfig, tokens: int) -> float:
    """Multiply-adds, as `LayerCalibration` counts them."""
    hidden, kv, inner = config.hidden_size, config.kv_size, config.intermediate_size
    weights = 2 * hidden * (hidden + kv) + 3 * hidden * inner + 2 * (hidden + kv) + 2 * hidden - kv
    moments = 2 * hidden * hidden * 3 + inner * (inner + hidden)
    rounding = hidden * (2 * hidden * (hidden + kv) + 2 * hidden * inner) + inner * inner * hidden
    return tokens * (weights + moments) + rounding


def _stored(rows: torch.Tensor, formats: Formats) -> torch.Tensor:
    """Rows of the embedding as the artifact will hold them."""
    if formats.embedding.kind == "float":
        return rows
    flat = rows.flatten(0, -2)
    grid = Grid.of(flat, formats.embedding)
    return grid.dequantized(grid.codes(flat)).view_as(rows)


def _largest_columns(checkpoint: Checkpoint) -> torch.Tensor:
    """The largest magnitude of each column of lm_head [1, hidden]."""
    name = f"{LM_HEAD}.weight"
    outputs, inputs = checkpoint.shape(name)
    step = max(1, (1 << 26) // inputs)
    parts = [
        checkpoint.rows(name, start, min(start + step, outputs)).float().abs().amax(dim=0)
        for start in range(0, outputs, step)
    ]
    return torch.stack(parts).amax(dim=0, keepdim=True)

"""Writes an artifact of 4-bit weights once more with 8-bit ones, for the fast integer product of processors.

MatMulNBits keeps weights small, but multiplies at the speed of fp32. The same weights in 8 bits with one scale for each
output take 1.6 times the memory and are multiplied as integers, faster. So an artifact can be fetched small and
run fast. The result is an artifact like any other; it needs neither the checkpoint nor the exporter.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact import TOKENIZER, Artifact
from ..errors import NothingToRequantize
from ..files.regular import read_regular
from ..files.writing import sync_directory, write_file
from ..format.layout import Place, matrix_specs, plan_layout, stored_weights, weight_places
from ..format.manifest import MANIFEST, FileEntry
from ..format.recipe import ROW, Recipe, WeightFormat
from ..format.tensors import EMBEDDING, matrix_shapes
from ..graph.model import GRAPH_REVISION, derive_graph
from ..progress import Meter, OnProgress, silent
from ..text.tokenizer import LARGEST_FILE
from .matrix import requantize_rows

GRAPH = "model_cpu.onnx"

_SLICE_ROWS = 512  # a group of them, as fp32, stays in a core's cache


def derive_recipe(artifact: Artifact) -> Recipe:
    """The recipe of what `requantize` makes of `artifact`. Raises NothingToRequantize where that would be the same."""
    recipe = artifact.manifest.recipe
    formats = recipe.targets.get("cpu")
    products = matrix_shapes(artifact.manifest.config).keys() - {EMBEDDING}  # whose rows are looked up, not multiplied
    if formats is None or not any(_is_small(formats.of(name)) for name in products):
        raise NothingToRequantize(artifact.path, recipe.scheme)
    body = _widen(formats.body)
    overrides = {name: _widen(each) for name, each in formats.overrides.items()}
    wide = replace(
        formats,
        body=body,
        lm_head=formats.lm_head if artifact.manifest.config.tie_word_embeddings else _widen(formats.lm_head),
        overrides={name: each for name, each in overrides.items() if each != body},
    )
    return replace(recipe, targets={"cpu": wide})


def estimate_bytes(artifact: Artifact) -> int:
    """About how many bytes `requantize` writes."""
    return derive_recipe(artifact).stored_bytes(artifact.manifest.config)


def requantize(
    artifact: Artifact, out: Path, *, threads: int, source: str = "", progress: OnProgress = silent
) -> Artifact:
    """Write `artifact` with all 4-bit (and grouped 8-bit) products in 8 bits a row into the empty directory `out`.

    The manifest is written last. Of a matrix only what is written, and a slice for each thread, is in memory. `source`
    is noted in the provenance.

    Raises:
        NothingToRequantize: it has no such weights for the CPU.
        CorruptArtifact: a file changed since it was opened.
        OSError: the disk is full, or the like.
    """
    recipe, manifest = derive_recipe(artifact), artifact.manifest
    layout = plan_layout(manifest.config, recipe)
    total = sum(layout.sizes().values())
    meter = Meter(progress, "writing 8-bit weights", total, "bytes")
    shards = _Shards(out)
    with (
        ThreadPoolExecutor(threads, "dream-edge-requantize") as pool,
        ThreadPoolExecutor(1, "dream-edge-write") as scribe,  # writes while the next is rounded
    ):
        pending: Future[None] | None = None
        for place, array in zip(layout.places, _tensors(artifact, recipe, pool), strict=True):
            if pending is not None:
                pending.result()
                meter.reach(shards.written)
            pending = scribe.submit(shards.append, place, array)
        if pending is not None:
            pending.result()
        meter.reach(total)
    documents = {
        GRAPH: derive_graph(manifest.config, recipe, "cpu"),
        TOKENIZER: read_regular(artifact.path / TOKENIZER, LARGEST_FILE),
    }
    for name, data in documents.items():
        write_file(out / name, data)
    entries = [FileEntry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in documents.items()]
    written = replace(
        manifest,
        files=(*entries, *shards.finish()),
        graphs={"cpu": GRAPH},
        graph_revision=GRAPH_REVISION,
        recipe=recipe,
        provenance={**manifest.provenance, "requantized_from": source} if source else manifest.provenance,
    )
    write_file(out / MANIFEST, written.to_json())
    sync_directory(out)
    return Artifact.open(out)


def _is_small(weights: WeightFormat) -> bool:
    return weights.kind in ("block", "nf4")


def _widen(weights: WeightFormat) -> WeightFormat:
    return ROW if _is_small(weights) else weights


# --- reading, rounding -----------------------------------------------------------------------------------------------


def _tensors(artifact: Artifact, recipe: Recipe, pool: Executor) -> Iterator[NDArray[Any]]:
    """Everything that the artifact of `recipe` stores, in the order of its layout."""
    config, before = artifact.manifest.config, artifact.manifest.recipe
    stored, formats, shapes = weight_places(config, before, "cpu"), before.targets["cpu"], matrix_shapes(config)
    for weight in chain.from_iterable(stored_weights(config, recipe)):
        name, weights = weight.name, formats.of(weight.name)
        if weight.format in (None, weights):
            yield from (artifact.map_tensor(stored[spec.name]) for spec in weight.specs)
        else:
            specs = matrix_specs(name, shapes[name], weights)
            parts = {spec.name.rpartition(".")[2]: artifact.map_tensor(stored[spec.name]) for spec in specs}
            yield from _requantize_matrix(parts, weights, shapes[name], pool)


def _requantize_matrix(
    parts: Mapping[str, NDArray[Any]], weights: WeightFormat, shape: tuple[int, int], pool: Executor
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 [in, out] and scales [out] of the matrix of `shape` that is stored in `parts`, as `weights` says."""
    outputs, inputs = shape
    by_row = {name: part.reshape(outputs, -1) if weights.kind == "nf4" else part for name, part in parts.items()}
    matrix, scales = np.empty((inputs, outputs), np.int8), np.empty(outputs, np.float32)

    def fill(first: int) -> None:
        rows = slice(first, first + _SLICE_ROWS)
        scales[rows] = requantize_rows({name: part[rows] for name, part in by_row.items()}, weights, matrix[:, rows])

    for _ in pool.map(fill, range(0, outputs, _SLICE_ROWS)):
        pass
    return matrix, scales


# --- writing ---------------------------------------------------------------------------------------------------------


class _Shards:
    """The files of weights in `directory`, hashed as they grow."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._digests: dict[str, hashlib._Hash] = {}
        self._ends: dict[str, int] = {}

    @property
    def written(self) -> int:
        return sum(self._ends.values())

    def append(self, place: Place, array: NDArray[Any]) -> None:
        """Write the next tensor of the layout."""
        assert (array.dtype, array.shape) == (np.dtype(place.spec.dtype), place.spec.shape)
        digest = self._digests.setdefault(place.shard, hashlib.sha256())
        padding = bytes(place.offset - self._ends.get(place.shard, 0))
        with (self._directory / place.shard).open("ab") as file:
            for data in (padding, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data):
                file.write(data)
                digest.update(data)
        self._ends[place.shard] = place.offset + place.size

    def finish(self) -> list[FileEntry]:
        """Have the files on the disk."""
        for name in self._digests:
            with (self._directory / name).open("ab") as file:
                os.fsync(file.fileno())
        return [FileEntry(name, self._ends[name], digest.hexdigest()) for name, digest in self._digests.items()]

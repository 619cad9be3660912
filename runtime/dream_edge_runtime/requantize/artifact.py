"""Writes an artifact of 4-bit weights once more with 8-bit ones, for the fast integer product of processors.

MatMulNBits keeps weights small, but multiplies at the speed of fp32. The same weights in 8 bits with one scale for each
output take 1.6 times the memory and are multiplied as integers, twice as fast. So an artifact can be fetched small and
run fast. The result is an artifact like any other; it needs neither the checkpoint nor the exporter.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..artifact import TOKENIZER, Artifact
from ..errors import CorruptArtifact, NothingToRequantize
from ..files.regular import open_regular, read_regular
from ..format.layout import TensorSpec, matrix_specs
from ..format.manifest import MANIFEST, FileEntry, Manifest
from ..format.recipe import ROW, Formats, Recipe, WeightFormat
from ..format.tensors import EMBEDDING, matrix_shapes, vector_sizes
from ..graph.graph_check import check_graph
from ..graph.onnx_reader import Initializer
from ..graph.plan_writer import write_planned
from ..graph.signature import weight_specs
from ..progress import Meter, OnProgress, silent
from ..text.tokenizer import LARGEST_FILE
from .matrix import requantize_rows

GRAPH, WEIGHTS = "model_cpu.onnx", "weights-00001.bin"

_ALIGNMENT = 64  # a cache line: what the kernels' loads want of a mapped file
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
        lm_head=_widen(formats.lm_head),
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
    before, after = manifest.recipe.targets["cpu"], recipe.targets["cpu"]
    sizes = {entry.name: entry.size for entry in manifest.files}
    path = artifact.path / manifest.graphs["cpu"]
    graph = check_graph(path, manifest.config, before, "cpu", sizes)
    total = sum(map(_nbytes, weight_specs(manifest.config, after).values()))
    meter = Meter(progress, "writing 8-bit weights", total, "bytes")
    with ExitStack() as stack:
        stored = _Stored(artifact.path, graph.initializers, stack)
        file = stack.enter_context((out / WEIGHTS).open("wb"))
        pool = stack.enter_context(ThreadPoolExecutor(threads, "dream-edge-requantize"))
        scribe = stack.enter_context(ThreadPoolExecutor(1, "dream-edge-write"))  # writes while the next is rounded
        shard = _Shard(file)
        pending: Future[None] | None = None
        for spec, array in _tensors(manifest, before, after, stored, pool):
            if pending is not None:
                pending.result()
                meter.reach(shard.end)
            pending = scribe.submit(shard.append, spec, array)
        if pending is not None:
            pending.result()
        meter.reach(total)
    documents = {
        GRAPH: write_planned(manifest.config, after, "cpu", shard.places),
        TOKENIZER: read_regular(artifact.path / TOKENIZER, LARGEST_FILE),
    }
    for name, data in documents.items():
        (out / name).write_bytes(data)
    entries = [FileEntry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in documents.items()]
    written = replace(
        manifest,
        files=(*entries, FileEntry(WEIGHTS, shard.end, shard.digest.hexdigest())),
        graphs={"cpu": GRAPH},
        recipe=recipe,
        provenance={**manifest.provenance, "requantized_from": source} if source else manifest.provenance,
    )
    (out / MANIFEST).write_bytes(written.to_json())
    return Artifact.open(out)


def _is_small(weights: WeightFormat) -> bool:
    return weights.kind in ("block", "nf4")


def _widen(weights: WeightFormat) -> WeightFormat:
    return ROW if _is_small(weights) else weights


# --- reading, rounding -----------------------------------------------------------------------------------------------


class _Stored:
    """The weights of an artifact, mapped while `stack` lasts."""

    def __init__(self, directory: Path, weights: list[Initializer], stack: ExitStack) -> None:
        self._weights = {item.name: item for item in weights if item.location is not None}
        self._maps = {}
        for name in sorted({str(item.location) for item in self._weights.values()}):
            with open_regular(directory / name) as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[name] = mapped
            end = max(item.offset + item.length for item in self._weights.values() if item.location == name)
            if len(mapped) < end:
                raise CorruptArtifact(directory / name, "it was cut short meanwhile")

    def tensor(self, name: str) -> NDArray[Any]:
        """A view of a whole tensor, in its stored type and shape."""
        item = self._weights[name]
        data = np.frombuffer(self._maps[str(item.location)], np.uint8, item.length, item.offset)
        return data.view(np.dtype(item.dtype).newbyteorder("<")).reshape(item.shape)


def _tensors(
    manifest: Manifest, before: Formats, after: Formats, stored: _Stored, pool: Executor
) -> Iterator[tuple[TensorSpec, NDArray[Any]]]:
    """Everything the copy stores: the matrices in the order data meets them, then biases and norms."""
    config = manifest.config
    for name, shape in matrix_shapes(config).items():
        specs, weights = matrix_specs(name, shape, after.of(name)), before.of(name)
        if weights == after.of(name):
            yield from ((spec, stored.tensor(spec.name)) for spec in specs)
        else:
            parts = {
                spec.name.rpartition(".")[2]: stored.tensor(spec.name) for spec in matrix_specs(name, shape, weights)
            }
            yield from zip(specs, _requantize_matrix(parts, weights, shape, pool), strict=True)
    for name, size in vector_sizes(config).items():
        yield TensorSpec(name, "float32", (size,)), stored.tensor(name)


def _requantize_matrix(
    parts: Mapping[str, NDArray[Any]], weights: WeightFormat, shape: tuple[int, int], pool: Executor
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 [in, out] and scales [out] of one matrix."""
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


class _Shard:
    """The one file of weights, hashed as it grows; `places` says where each tensor lies."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.end = 0
        self.places: list[Initializer] = []

    def append(self, spec: TensorSpec, array: NDArray[Any]) -> None:
        self._write(bytes(-self.end % _ALIGNMENT))
        shape = tuple(map(int, spec.shape))
        assert (array.dtype, array.shape) == (np.dtype(spec.dtype), shape)
        self.places.append(Initializer(spec.name, spec.dtype, shape, WEIGHTS, self.end, array.nbytes))
        self._write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self.digest.update(data)
        self.end += len(data)


def _nbytes(spec: TensorSpec) -> int:
    return prod(map(int, spec.shape)) * np.dtype(spec.dtype).itemsize

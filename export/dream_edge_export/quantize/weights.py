"""Encode the matrices and vectors of an artifact part by part, so that one slice is in memory at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from dream_edge_runtime.format.layout import Bundle, Weight, interleave
from dream_edge_runtime.format.recipe import BLOCK_SIZES
from dream_edge_runtime.format.tensors import EMBEDDING

from ..checkpoint.checkpoint import Checkpoint
from .grid import Arrays, encode_embedding, encode_linear

# A slice stays in the processor's caches: five times as fast for 4 bits as a whole matrix of the 7B.
_SLICE_WEIGHTS = 1 << 20
_ROWS = max(BLOCK_SIZES)  # so that groups counted through the whole matrix never span two slices
SLICES_AHEAD = 4
LARGEST_STRIP = 1 << 30
"""Bytes held of a matrix that is stored transposed."""

Part = tuple[str, NDArray[np.generic]]
"""The next rows of a stored tensor, and its name."""

Encode = Callable[[Weight, Executor], Iterator[Part]]


@contextmanager
def open_encoders() -> Iterator[Executor]:
    """A pool of as many threads as PyTorch uses; each encodes a slice by itself.

    Reading, encoding, hashing and writing then overlap, and no thread waits for another within an operator, which on a
    busy machine takes longer than the operator.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # new threads would take over ours


def encode_weight(
    checkpoint: Checkpoint, weight: Weight, pool: Executor, columns: torch.Tensor | None = None
) -> Iterator[Part]:
    """The bytes of `weight` in the order of its tensors, encoded in `pool`; its `columns` [in] are multiplied by these.

    The largest tensor, which comes first, is passed on slice by slice; the others are held until it is done.
    """
    if weight.format is None:
        yield weight.name, checkpoint.tensor(weight.name).to(torch.float32).numpy()
        return
    first, *others = weight.specs
    slices = (_encode_slices if weight.format.joins else _encode_transposed)(checkpoint, weight, pool, columns)
    held: dict[str, list[NDArray[np.generic]]] = {}
    for arrays in slices:
        if "weight" in arrays:
            yield first.name, arrays.pop("weight")
        for last_name, array in arrays.items():
            held.setdefault(f"{weight.name}.{last_name}", []).append(array)
    for spec in others:
        for array in held[spec.name]:
            yield spec.name, array


def encode_bundle(encode: Encode, bundle: Bundle, pool: Executor) -> Iterator[Part]:
    """The bytes of `bundle` in the order in which they lie; all but the first tensors are held until these are done."""
    held: dict[str, list[NDArray[np.generic]]] = {}
    for weight in bundle:
        for name, array in encode(weight, pool):
            if name == weight.specs[0].name:
                yield name, array
            else:
                held.setdefault(name, []).append(array)
    for together in interleave(bundle)[1:]:
        for spec in together:
            for array in held.pop(spec.name):
                yield spec.name, array


def count_slice_rows(inputs: int) -> int:
    """Rows that are encoded at once of a matrix with `inputs`."""
    return max(1, _SLICE_WEIGHTS // inputs // _ROWS) * _ROWS


def _encode_slices(
    checkpoint: Checkpoint, weight: Weight, pool: Executor, columns: torch.Tensor | None
) -> Iterator[Arrays]:
    format_ = weight.format
    assert format_ is not None
    encode = encode_embedding if weight.name == EMBEDDING else encode_linear
    outputs, inputs = checkpoint.shape(weight.source)
    rows = count_slice_rows(inputs)

    def slice_from(start: int) -> Arrays:
        part = checkpoint.rows(weight.source, start, min(start + rows, outputs))
        return encode(part if columns is None else part.float() * columns, format_)

    return _map_in_order(pool, slice_from, range(0, outputs, rows))


def _map_in_order(pool: Executor, work: Callable[[int], Arrays], items: Iterable[int]) -> Iterator[Arrays]:
    """Like map, but only a few results are waiting at any time."""
    pending: deque[Future[Arrays]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > SLICES_AHEAD:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _encode_transposed(
    checkpoint: Checkpoint, weight: Weight, pool: Executor, columns: torch.Tensor | None
) -> Iterator[Arrays]:
    """Rows of a matrix stored as [in, out], whose slices are columns of it; it is read again for each strip of rows."""
    outputs, inputs = checkpoint.shape(weight.source)
    dtype = np.dtype(weight.specs[0].dtype)
    height = max(1, LARGEST_STRIP // (outputs * dtype.itemsize))
    for first in range(0, inputs, height):
        strip = np.empty((min(height, inputs - first), outputs), dtype)
        others: list[Arrays] = []
        column = 0
        for arrays in _encode_slices(checkpoint, weight, pool, columns):
            part = arrays.pop("weight")
            strip[:, column : column + part.shape[1]] = part[first : first + height]
            column += part.shape[1]
            others.append(arrays)
        yield {"weight": strip}
        if first + height >= inputs:
            yield from others

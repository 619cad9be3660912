"""A batch as a dataset of Ray Data's: its lines read one by one, its answers as they come.

A block is one request. So an answer is there for the file of results as soon as it is computed, and a worker that is
lost takes one request with it; to Ray a block costs some milliseconds, to a model a request costs seconds.
"""

from __future__ import annotations

import json
import socket
import warnings
from collections.abc import Generator, Iterator
from dataclasses import asdict
from typing import Any

import pyarrow
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource, ReadTask, read_datasource
from ray.data.block import BlockMetadata
from ray.exceptions import RayError, RayTaskError
from ray.util.annotations import RayDeprecationWarning

from dream_edge_runtime.errors import DreamEdgeError

from .answers import Answer, answer
from .errors import ClusterFailed, WorkerUnfit
from .placement import Placement
from .ray_engine import Source
from .requests import Remaining, parse

_RETRIES = 3
"""How often a request is given to another worker after its own was lost. It may be the request that ends them."""

_REQUEST = pyarrow.schema([("number", pyarrow.int64()), ("data", pyarrow.binary())])
_ANSWER = pyarrow.schema([("answer", pyarrow.binary()), ("host", pyarrow.string()), ("unfit", pyarrow.string())])


def answered(
    remaining: Remaining, source: Source, digest: str, served: str, placement: Placement
) -> Generator[Answer, None, None]:
    """The answers to `remaining`, of workers that load `source`, whose manifest must have this `digest`.

    Raises:
        WorkerUnfit, ClusterFailed; and RayTaskError for what is nobody's fault but ours.
    """
    try:
        # whole blocks, none fetched ahead: an answer waits for no other
        for table in _dataset(remaining, source, digest, served, placement).iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            for row in table.to_pylist():
                if row["unfit"] is not None:
                    raise WorkerUnfit(row["host"], row["unfit"])
                yield Answer(**json.loads(row["answer"]))
    except RayTaskError:
        raise
    except RayError as error:
        raise ClusterFailed(str(error).strip().split("\n")[0]) from error


def _dataset(remaining: Remaining, source: Source, digest: str, served: str, placement: Placement) -> Dataset:
    each = placement.each
    with DataContext.current(_context()), warnings.catch_warnings():
        # of max_task_retries, which has no other name yet; the extra's upper bound is the version that drops it
        warnings.simplefilter("ignore", RayDeprecationWarning)
        lines = read_datasource(
            _Lines(remaining),
            override_num_blocks=1,
            num_cpus=0,
            label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
        )
        return lines.map_batches(
            _Answering,
            fn_constructor_args=(source, digest, served, each.threads),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=placement.workers, max_tasks_in_flight_per_actor=2),
            num_cpus=each.threads,
            num_gpus=each.gpus,
            memory=each.memory or None,
            max_task_retries=_RETRIES,
        )


def _context() -> DataContext:
    context = DataContext.get_current().copy()
    context.target_max_block_size = 1  # bytes, which every request has: none is put into a block with others
    context.execution_no_progress_timeout_s = -1  # a request may take its time, and so may a machine to come
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context


class _Lines(Datasource):  # type: ignore[misc]  # mypy reads nothing of Ray
    """The file of requests, read where the program runs, as far ahead as Ray Data finds right."""

    def __init__(self, remaining: Remaining) -> None:
        super().__init__()
        self._remaining = ray.put(Remaining(remaining.path.absolute(), remaining.answered))

    def get_name(self) -> str:
        return "Requests"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        remaining = self._remaining
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(lambda: _blocks(ray.get(remaining)), metadata)]


def _blocks(remaining: Remaining) -> Iterator[pyarrow.Table]:
    for number, data in remaining:
        yield pyarrow.Table.from_pylist([{"number": number, "data": data}], _REQUEST)


class _Answering:
    """A worker: a model in a process of its own, somewhere in the cluster.

    What keeps it from its work is sent like an answer: an exception's class need not survive the way.
    """

    def __init__(self, source: Source, digest: str, served: str, threads: int) -> None:
        self._served, self._unfit = served, None
        try:
            if source.digest() != digest:
                self._unfit = f"{source.name} is not the artifact that it is where the batch was started."
            else:
                self._model = source.load(threads)
        except (DreamEdgeError, OSError) as error:
            self._unfit = str(error)

    def __call__(self, requests: pyarrow.Table) -> pyarrow.Table:
        if self._unfit is not None:
            return pyarrow.Table.from_pylist([{"host": socket.gethostname(), "unfit": self._unfit}], _ANSWER)
        answers = [answer(self._model, self._served, parse(row["number"], row["data"])) for row in requests.to_pylist()]
        return pyarrow.Table.from_pylist([{"answer": json.dumps(asdict(each)).encode()} for each in answers], _ANSWER)

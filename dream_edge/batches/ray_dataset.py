"""A batch as a dataset of Ray Data's: its lines read one by one, its answers as they come.

A block is one request. So an answer is there for the file of results as soon as it is computed, and a worker that is
lost takes one request with it; to Ray a block costs some milliseconds, to a model a request costs seconds.
"""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from typing import Any

import pyarrow
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource, ReadTask, read_datasource
from ray.data.block import BlockMetadata
from ray.exceptions import RayError, RayTaskError

from dream_edge_runtime.errors import ArtifactError, DreamEdgeError

from .answers import Answer, answer
from .errors import ClusterFailed, EndsWorkers, WorkerUnfit
from .placement import Placement
from .requests import Line, Remaining, parse
from .source import Source

_MOST_BEGINNINGS = 4
"""A request that has ended as many workers as this is given to no other."""

_SAME = (
    "Every machine of the cluster needs the same artifact at the same place, or its name on a hub, and each fetches it."
)

_REQUEST = pyarrow.schema([("number", pyarrow.int64()), ("data", pyarrow.binary())])
_ANSWER = pyarrow.schema([("answer", pyarrow.binary()), ("host", pyarrow.string()), ("unfit", pyarrow.string())])


def compute_answers(
    remaining: Remaining, source: Source, digest: str, served: str, placement: Placement
) -> Generator[Answer, None, None]:
    """Answer `remaining` by workers that load `source`, whose manifest must have this `digest`.

    Raises:
        WorkerUnfit, ClusterFailed; and RayTaskError for a fault of this program.
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
        raise ClusterFailed(str(error).strip().splitlines()[-1]) from error  # under the traceback of a worker


def _dataset(remaining: Remaining, source: Source, digest: str, served: str, placement: Placement) -> Dataset:
    each, here = placement.each, {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    begun = ray.remote(num_cpus=0, label_selector=here)(_Begun).remote()
    with DataContext.current(_context()):
        lines = read_datasource(_Lines(remaining), override_num_blocks=1, num_cpus=0, label_selector=here)
        return lines.map_batches(
            _Answering,
            fn_constructor_args=(source, digest, served, each.threads, begun),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=placement.workers, max_tasks_in_flight_per_actor=2),
            num_cpus=each.threads,
            num_gpus=each.gpus,
            memory=each.memory or None,
        )


def _context() -> DataContext:
    context = DataContext.get_current().copy()
    context.target_max_block_size = 1  # bytes, which every request has: none is put into a block with others
    context.execution_no_progress_timeout_s = -1  # a request may take its time, and so may a machine to come
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context


class _Lines(Datasource):  # type: ignore[misc]  # mypy reads nothing of Ray
    """The file of requests, read where the program runs, as far ahead as Ray Data wants."""

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


class _Begun:
    """How often each of the requests under way was begun. Ray would retry one that ends its workers without end."""

    def __init__(self) -> None:
        self._times = Counter[int]()

    def begin(self, number: int) -> int:
        self._times[number] += 1
        return self._times[number]

    def end(self, number: int) -> None:
        del self._times[number]


class _Answering:
    """A worker: a model in its own process, somewhere in the cluster.

    Its own errors are sent as answers are, since the class of an exception need not survive the way.
    """

    def __init__(self, source: Source, digest: str, served: str, threads: int, begun: Any) -> None:
        self._served, self._begun, self._unfit = served, begun, ""
        try:
            if source.digest() != digest:
                self._unfit = f"{source.name} is not the artifact that it is where the batch was started. {_SAME}"
            else:
                self._model = source.load(threads)
        except ArtifactError as error:
            self._unfit = f"{error} {_SAME}"
        except (DreamEdgeError, OSError) as error:
            self._unfit = str(error)

    def __call__(self, requests: pyarrow.Table) -> pyarrow.Table:
        rows: list[dict[str, Any]]
        if self._unfit:
            rows = [{"host": socket.gethostname(), "unfit": self._unfit}]
        else:
            answers = (self._answer(parse(row["number"], row["data"])) for row in requests.to_pylist())
            rows = [{"answer": json.dumps(asdict(each)).encode()} for each in answers]
        return pyarrow.Table.from_pylist(rows, _ANSWER)

    def _answer(self, line: Line) -> Answer:
        if ray.get(self._begun.begin.remote(line.number)) > _MOST_BEGINNINGS:
            line = replace(line, refused=EndsWorkers(_MOST_BEGINNINGS))
        found = answer(self._model, self._served, line)
        self._begun.end.remote(line.number)
        return found

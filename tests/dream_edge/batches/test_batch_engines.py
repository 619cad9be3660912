"""What batches have in common whatever computes them, and what is said before a Ray cluster is asked for anything."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import dream_edge
from dream_edge.batches import BatchSummary, NoRoomOnCluster, RayEngine, Source, UnreadableBatch, run_batch
from dream_edge.batches.answers import Answer
from dream_edge.batches.placement import Machine, Placement, Worker, place
from dream_edge.batches.requests import Remaining, parse
from dream_edge.cli.app import app
from dream_edge_runtime.errors import InvalidOption, MissingExtra
from dream_edge_runtime.progress import Progress


@dataclass(frozen=True)
class Told:
    """An engine that answers the lines with these numbers, in this order."""

    numbers: Sequence[int]

    def answers(self, remaining: Remaining) -> Generator[Answer, None, None]:
        lines = {number: parse(number, data) for number, data in remaining}
        for turn, number in enumerate(self.numbers):
            if number in lines:
                yield Answer(number, lines[number].custom_id, 200, {"turn": turn})


def batch_of(path: Path, count: int) -> Path:
    lines = (json.dumps({"custom_id": f"r{number}", "url": "/v1/fill"}) + "\n" for number in range(1, count + 1))
    path.write_text("\n".join(lines), "utf-8")  # an empty line after each
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_answers_in_any_order_and_twice_are_written_once(tmp_path: Path) -> None:
    source, out = batch_of(tmp_path / "in.jsonl", 4), tmp_path / "out.jsonl"
    told: list[Progress] = []
    run_batch(Told([5, 1, 5, 1, 7, 3]), source, out, progress=told.append)
    assert [(each["custom_id"], each["response"]["body"]["turn"]) for each in read(out)] == [
        ("r3", 0),
        ("r1", 1),
        ("r4", 4),
        ("r2", 5),
    ]
    assert [each.done for each in told] == [0, 1, 2, 3, 4]


def test_what_one_engine_begins_another_ends(tmp_path: Path) -> None:
    source, out = batch_of(tmp_path / "in.jsonl", 4), tmp_path / "out.jsonl"
    with pytest.raises(UnreadableBatch, match="went missing"):
        run_batch(Told([7, 3]), source, out)
    assert run_batch(Told([1, 3, 5, 7]), source, out) == BatchSummary(4, 2, 0, 4)
    assert [each["custom_id"] for each in read(out)] == ["r4", "r2", "r1", "r3"]


def test_remaining_requests_keep_their_numbers(tmp_path: Path) -> None:
    source = batch_of(tmp_path / "in.jsonl", 4)
    remaining = Remaining(source, {3, 5})
    assert [(number, parse(number, data).custom_id) for number, data in remaining] == [(1, "r1"), (7, "r4")]
    assert len(list(remaining)) == 2, "it can be read again"


def machine(cpus: float, gpus: float = 0, memory: float = 0) -> Machine:
    return Machine(cpus=cpus, gpus=gpus, memory=memory)


def test_placement_is_what_trying_everything_finds() -> None:
    """Workers of equal width are dealt out to machines one by one; the widest that all find a place is taken."""

    def dealt(cpus: Sequence[int], workers: int, threads: int) -> bool:
        free = list(cpus)
        for _ in range(workers):
            if max(free) < threads:
                return False
            free[free.index(max(free))] -= threads
        return True

    for cpus, workers in itertools.product(itertools.product(range(5), repeat=3), range(1, 7)):
        widest = max((threads for threads in range(1, 6) if dealt(cpus, workers, threads)), default=0)
        machines = [machine(each) for each in cpus]
        if widest:
            found = place(machines, workers=workers, threads=None, gpus=0, memory=0)
            assert (found.workers, found.each.threads) == (workers, widest)
        else:
            with pytest.raises(NoRoomOnCluster):
                place(machines, workers=workers, threads=None, gpus=0, memory=0)


def test_by_default_a_worker_goes_to_each_machine_or_gpu() -> None:
    head, small, large = machine(0), machine(4, memory=8e9), machine(16, gpus=2, memory=64e9)
    cluster = [head, small, large]
    assert place(cluster, workers=None, threads=None, gpus=0, memory=5_000_000_000) == Placement(
        2, Worker(threads=8, gpus=0, memory=5_000_000_000)
    )
    assert place(cluster, workers=None, threads=3, gpus=0, memory=9_000_000_000).workers == 1
    assert place(cluster, workers=None, threads=None, gpus=1, memory=0) == Placement(
        2, Worker(threads=8, gpus=1, memory=0)
    )


def test_no_room_says_what_there_is() -> None:
    cluster = [machine(4, memory=8e9), machine(2, gpus=1, memory=6e9)]
    with pytest.raises(NoRoomOnCluster, match=r"3 workers of 1 thread, 5.0 GB.*4 CPU, 8.0 GB; 2 CPU, 1 GPU, 6.0 GB"):
        place(cluster, workers=3, threads=None, gpus=0, memory=5_000_000_000)
    with pytest.raises(NoRoomOnCluster, match="8 threads"):
        place(cluster, workers=None, threads=8, gpus=0, memory=0)
    with pytest.raises(NoRoomOnCluster, match="no machine"):
        place([], workers=None, threads=None, gpus=0, memory=0)


def test_without_ray_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "dream-edge\[ray\]"'):
        RayEngine(source=Source(name="tiny"), served="tiny")
    source = batch_of(tmp_path / "in.jsonl", 1)
    result = CliRunner().invoke(app, ["batch", "tiny", str(source), str(tmp_path / "out.jsonl"), "--engine", "ray"])
    assert result.exit_code == 1
    assert 'pip install "dream-edge[ray]"' in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--workers", "2"], "--workers"),
        (["--address", "auto"], "--address"),
        (["--engine", "ray", "--workers", "0"], "--workers"),
        (["--engine", "ray", "--address", "ray://head:10001"], "--address 'ray://head:10001': must be HOST:PORT"),
        (["--engine", "spark"], "local"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, arguments: list[str], part: str) -> None:
    source = batch_of(tmp_path / "in.jsonl", 1)
    result = CliRunner().invoke(app, ["batch", "tiny", str(source), str(tmp_path / "out.jsonl"), *arguments])
    assert result.exit_code == 2
    assert part in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_options_from_python(tmp_path: Path) -> None:
    wrong: Any = "spark"
    with pytest.raises(InvalidOption, match="must be local or ray"):
        dream_edge.batch("tiny", tmp_path / "in.jsonl", tmp_path / "out.jsonl", engine=wrong)
    bad: tuple[dict[str, Any], ...] = ({"workers": 0}, {"threads": -1}, {"address": "http://head"})
    for named in bad:
        with pytest.raises(InvalidOption, match=next(iter(named))):
            RayEngine(source=Source(name="tiny"), served="tiny", **named)

"""Batches over a Ray cluster, with workers, machines and the program itself killed. Slow: Ray starts many processes."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dream_edge
from dream_edge.batches import (
    ClusterFailed,
    ClusterUnreachable,
    Engine,
    LocalEngine,
    NoRoomOnCluster,
    RayEngine,
    Source,
    WorkerUnfit,
    run_batch,
)
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.progress import Progress

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="/proc says which processes are Ray's"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),  # it sets its own deprecated defaults
]

COMMAND = (sys.executable, "-m", "dream_edge", "batch", "tiny")
RAY = ("--engine", "ray", "--workers", "2", "--threads", "1")
ENGINES = (("--threads", "1"), RAY)


def write_batch(path: Path, count: int, *, length: int = 24) -> Path:
    """Texts drawn with a seed, one official step a token; every tenth cannot be made, every seventh line is empty."""
    words = ("dog", "cat", "old man", "boys", "garden", "lamp", "tree")
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            body = {"prompt": f"The {words[number % 7]}", "max_tokens": length, "steps": length, "seed": number}
            body |= {"temperature": 0.7, "n": 1 + number % 2} if number % 10 != 9 else {"colour": "red"}
            file.write(json.dumps({"custom_id": f"request {number}", "url": "/v1/completions", "body": body}) + "\n")
            file.write("\n" * (number % 7 == 0))
    return path


def read(path: Path) -> dict[str, Any]:
    """Results by custom_id, without what differs from run to run. A custom_id that comes twice is an error."""
    found: dict[str, Any] = {}
    for line in path.read_text("utf-8").splitlines():
        result = json.loads(line)
        body = result["response"]["body"]
        told = body.get("diffusion", {})
        for part, name in ((body, "id"), (body, "created"), (told, "seconds"), (told, "tokens_per_second")):
            part.pop(name, None)
        assert result["custom_id"] not in found
        found[result["custom_id"]] = result
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the local engine answers to the 60 requests of `write_batch`."""
    place = tmp_path_factory.mktemp("local")
    source = write_batch(place / "in.jsonl", 60)
    run_batch(LocalEngine(lambda: dream_edge.load("tiny", threads=1), "tiny"), source, place / "out.jsonl")
    return read(place / "out.jsonl")


class Cluster:
    """Two machines of one processor each, as Ray sees it, and this process on the first of them."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        self._cluster = RayCluster()
        self._cluster.add_node(num_cpus=1, include_dashboard=False)
        self.second = self._cluster.add_node(num_cpus=1)
        self.address = self._cluster.address

    def add(self) -> None:
        self.second = self._cluster.add_node(num_cpus=1)

    def lose(self) -> None:
        """The second machine goes, as if its power failed."""
        self._cluster.remove_node(self.second, allow_graceful=False)

    def stop(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    started = Cluster()
    yield started
    started.stop()


def engine_of(cluster: Cluster, **named: Any) -> RayEngine:
    options = {"source": Source(name="tiny"), "served": "tiny", "workers": 2, "address": cluster.address}
    return RayEngine(**{**options, **named})


def ray_processes(ancestor: int, title: str = "") -> list[int]:
    """Processes below `ancestor` that have `title` on their command line."""
    parents, found = {}, []
    for entry in Path("/proc").iterdir():
        try:
            number = int(entry.name)
            parents[number] = int((entry / "stat").read_text("utf-8").rsplit(")", 1)[1].split()[1])
            if title in (entry / "cmdline").read_bytes().decode(errors="replace"):
                found.append(number)
        except (ValueError, OSError):
            continue

    def is_below(number: int) -> bool:
        while number := parents.get(number, 0):
            if parents.get(number) == ancestor:
                return True
        return False

    return [number for number in found if is_below(number)]


def workers(ancestor: int) -> list[int]:
    return ray_processes(ancestor, "ray::MapWorker")


def test_answers_are_those_of_one_machine(cluster: Cluster, expected: dict[str, Any], tmp_path: Path) -> None:
    source, out = write_batch(tmp_path / "in.jsonl", 60), tmp_path / "out.jsonl"
    seen: list[int] = []
    run_batch(engine_of(cluster), source, out, progress=lambda _: seen.append(len(out.read_bytes().splitlines())))
    assert read(out) == expected
    assert seen == list(range(61)), "an answer is written when it is there"
    await_end_of(workers(os.getpid()))


def test_lost_workers_cost_nothing_and_repeat_nothing(
    cluster: Cluster, expected: dict[str, Any], tmp_path: Path
) -> None:
    source, out = write_batch(tmp_path / "in.jsonl", 60), tmp_path / "out.jsonl"
    killed: list[int] = []

    def progress(found: Progress) -> None:
        if found.done in (5, 25, 26, 45):
            victim = random.Random(found.done).choice(workers(os.getpid()))
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    run_batch(engine_of(cluster), source, out, progress=progress)
    assert len(killed) == 4
    assert read(out) == expected


def test_a_request_that_ends_its_workers_has_that_in_its_line(
    cluster: Cluster, expected: dict[str, Any], tmp_path: Path
) -> None:
    from support.deadly import DeadlySource

    source, out = write_batch(tmp_path / "in.jsonl", 12), tmp_path / "out.jsonl"
    deadly = json.dumps({"custom_id": "deadly", "url": "/v1/completions", "body": {"prompt": "The"}})
    source.write_text(source.read_text("utf-8") + deadly + "\n", "utf-8")
    run_batch(engine_of(cluster, source=DeadlySource(name="tiny")), source, out)
    found = read(out)
    response = found.pop("deadly")["response"]
    assert (response["status_code"], response["body"]["error"]["code"]) == (500, "worker_lost")
    assert "max_tokens" in response["body"]["error"]["message"]
    assert found == {name: expected[name] for name in found}
    assert len(found) == 12


def test_a_machine_that_goes(cluster: Cluster, expected: dict[str, Any], tmp_path: Path) -> None:
    source, out = write_batch(tmp_path / "in.jsonl", 60), tmp_path / "out.jsonl"

    def progress(found: Progress) -> None:
        if found.done == 20:
            cluster.lose()

    try:
        run_batch(engine_of(cluster), source, out, progress=progress)
    finally:
        cluster.add()
    assert read(out) == expected


def test_cancelled_it_goes_on_with_another_engine(cluster: Cluster, expected: dict[str, Any], tmp_path: Path) -> None:
    source, out = write_batch(tmp_path / "in.jsonl", 60), tmp_path / "out.jsonl"
    local = LocalEngine(lambda: dream_edge.load("tiny", threads=1), "tiny")
    engines: list[Engine] = [local, engine_of(cluster), local]
    for turn, engine in enumerate(engines, 1):
        cancel = threading.Event()

        def progress(found: Progress, *, last: int = 15 * turn, cancel: threading.Event = cancel) -> None:
            if found.done == last:
                cancel.set()

        with pytest.raises(Cancelled):
            run_batch(engine, source, out, cancel=cancel, progress=progress)
        assert len(read(out)) == 15 * turn
    await_end_of(workers(os.getpid()))
    assert run_batch(engine_of(cluster), source, out).before == 45
    assert read(out) == expected


def test_a_machine_without_the_artifact(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a digest is made up, as if the artifact were there; the workers look for themselves."""
    source, out = write_batch(tmp_path / "in.jsonl", 4), tmp_path / "out.jsonl"
    absent = engine_of(cluster, source=Source(name=tmp_path / "absent", memory_check=False))
    monkeypatch.setattr(Source, "digest", lambda _: "of an artifact")
    with pytest.raises(WorkerUnfit, match=f"on {socket.gethostname()}: .*absent: no artifact here.*same place"):
        run_batch(absent, source, out)
    with pytest.raises(WorkerUnfit, match="tiny is not the artifact that it is where the batch was started"):
        run_batch(engine_of(cluster), source, out)
    assert out.read_bytes() == b""


def test_a_machine_without_the_package(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker sees it: what it is sent is of a module that it does not have."""
    monkeypatch.setitem(sys.modules, "elsewhere", elsewhere := ModuleType("elsewhere"))
    foreign = type("Foreign", (Source,), {"__module__": "elsewhere"})
    monkeypatch.setattr(elsewhere, "Foreign", foreign, raising=False)
    source, out = write_batch(tmp_path / "in.jsonl", 4), tmp_path / "out.jsonl"
    with pytest.raises(ClusterFailed, match=r"No module named 'elsewhere'.*same versions of dream-edge"):
        run_batch(engine_of(cluster, source=foreign(name="tiny")), source, out)


def test_more_than_the_cluster_has(cluster: Cluster, tmp_path: Path) -> None:
    source, out = write_batch(tmp_path / "in.jsonl", 4), tmp_path / "out.jsonl"
    with pytest.raises(NoRoomOnCluster, match=r"3 workers of 1 thread.*1 CPU, .*; 1 CPU, "):
        run_batch(engine_of(cluster, workers=3), source, out)


def test_no_cluster_at_an_address(tmp_path: Path) -> None:
    source = write_batch(tmp_path / "in.jsonl", 4)
    with pytest.raises(ClusterUnreachable, match=r"no Ray cluster to join at 127\.0\.0\.1:1 "):
        run_batch(
            RayEngine(source=Source(name="tiny"), served="tiny", address="127.0.0.1:1"), source, tmp_path / "out.jsonl"
        )


def test_from_the_command_line_ray_is_not_heard(expected: dict[str, Any], tmp_path: Path) -> None:
    source, out = write_batch(tmp_path / "in.jsonl", 60), tmp_path / "out.jsonl"
    done = subprocess.run([*COMMAND, source, out, *RAY], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[-1] == f"{out}: 60 answers; 6 could not be met, their lines say why."
    assert all(line.startswith("Answering: ") for line in lines[:-1])
    assert read(out) == expected


def test_killed_again_and_again_with_either_engine(expected: dict[str, Any], tmp_path: Path) -> None:
    source, out = write_batch(tmp_path / "in.jsonl", 60), tmp_path / "out.jsonl"
    chance = random.Random(0)
    for turn in range(6):
        before = out.stat().st_size if out.exists() else 0
        process = subprocess.Popen([*COMMAND, source, out, *ENGINES[turn % 2 == 0]], stderr=subprocess.DEVNULL)
        while process.poll() is None and (not out.exists() or out.stat().st_size == before):
            time.sleep(0.002)
        time.sleep(chance.random() * 0.2)
        assert process.poll() is None, "it ended before it was killed: ask for more"
        models = workers(process.pid)
        process.kill()
        process.wait()
        await_end_of(models)  # two small processes of Ray's look after a minute only whether they are needed
    assert out.read_bytes().count(b"\n") < 60
    subprocess.run([*COMMAND, source, out, *RAY], check=True, timeout=300)
    assert read(out) == expected


def test_interrupted_it_stops_and_leaves_nothing_running(expected: dict[str, Any], tmp_path: Path) -> None:
    """As Ctrl-C does it: the signal goes to all processes of the group."""
    source, out = write_batch(tmp_path / "in.jsonl", 60), tmp_path / "out.jsonl"
    process = subprocess.Popen(
        [*COMMAND, source, out, *RAY],
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        # a shell's background job ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not out.exists() or out.read_bytes().count(b"\n") < 3:
        time.sleep(0.01)
    below = ray_processes(process.pid)
    assert below
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [line for line in errors.splitlines() if not line.startswith("Answering: ")] == ["Stopped."]
    await_end_of(below)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
    subprocess.run([*COMMAND, source, out], check=True, timeout=300)
    assert read(out) == expected


def await_end_of(processes: list[int]) -> None:
    """Nothing of a cluster outlives its program by half a minute."""
    until = time.monotonic() + 30
    while left := [each for each in processes if Path(f"/proc/{each}").exists()]:
        assert time.monotonic() < until, left
        time.sleep(0.05)

"""Workers and their queue: order, refusals, cancellation, failure, and the end."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

import dream_edge
from dream_edge.server import Engine, ServerSettings, serve
from dream_edge.server.engine import QueuedJob
from dream_edge.server.errors import NotLoaded, QueueFull, ShuttingDown
from dream_edge_runtime.errors import ArtifactNotFound, Cancelled
from dream_edge_runtime.generation.results import Generation
from dream_edge_runtime.model import DreamModel
from support.serving import GatedNetwork, SpoilingNetwork, gated, served

ASKED: dict[str, Any] = {"prompt": "The old man", "max_tokens": 8, "exact": True}


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Iterator[tuple[str, GatedNetwork]]:
    """One request at a time, or as many as a test asks for."""
    model, network = gated()
    with served(lambda: model, parallel=getattr(request, "param", 1), queue=2, shutdown_seconds=1) as url:
        while httpx.get(f"{url}/health").status_code == 503:
            time.sleep(0.01)
        try:
            yield url, network
        finally:
            network.gate.set()


def busy(url: str, count: int) -> None:
    deadline = time.monotonic() + 10
    while f"dream_edge_busy {count}.0" not in httpx.get(f"{url}/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waiting(url: str, count: int) -> None:
    deadline = time.monotonic() + 10
    while httpx.get(f"{url}/health").json()["waiting"] != count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_queue_says_when_to_come_again(gate: tuple[str, GatedNetwork]) -> None:
    url, network = gate
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(httpx.post, f"{url}/v1/completions", json=ASKED, timeout=60)]
        assert network.entered.wait(10)
        running += [pool.submit(httpx.post, f"{url}/v1/completions", json=ASKED, timeout=60) for _ in range(2)]
        waiting(url, 2)
        assert httpx.get(f"{url}/health").json() == {"status": "busy", "waiting": 2}
        refused = httpx.post(f"{url}/v1/completions", json=ASKED)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "queue_full"
        assert 1 <= int(refused.headers["retry-after"]) <= 600
        network.gate.set()
        assert len({each.result().json()["choices"][0]["text"] for each in running}) == 1
    assert httpx.get(f"{url}/health").json() == {"status": "ready", "waiting": 0}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_stops_its_generation_within_a_step(gate: tuple[str, GatedNetwork], stream: bool) -> None:
    url, network = gate
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
        connection.sendall(request(ASKED | {"stream": stream}))
        assert network.entered.wait(10)
    assert network.cancelled.wait(5)
    assert network.passes == 1
    waiting(url, 0)
    assert b"dream_edge_disconnects_total 1.0" in httpx.get(f"{url}/metrics").content


def test_a_client_that_goes_leaves_the_queue(gate: tuple[str, GatedNetwork]) -> None:
    url, network = gate
    port = int(url.rpartition(":")[2])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, f"{url}/v1/completions", json=ASKED, timeout=60)
        assert network.entered.wait(10)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(request(ASKED))
            waiting(url, 1)
        waiting(url, 0)
        network.gate.set()
        made = first.result().json()["diffusion"]["passes"]
    assert network.passes == made  # of the first alone


@pytest.mark.parametrize("gate", [3], indirect=True)
def test_some_are_made_at_once_and_the_others_wait(gate: tuple[str, GatedNetwork]) -> None:
    url, network = gate
    with ThreadPoolExecutor(5) as pool:
        running = [pool.submit(httpx.post, f"{url}/v1/completions", json=ASKED, timeout=60) for _ in range(5)]
        waiting(url, 2)
        busy(url, 3)
        assert httpx.post(f"{url}/v1/completions", json=ASKED).status_code == 429
        assert network.passes == 1  # the other two wait for it
        network.gate.set()
        answers = [each.result().json() for each in running]
    assert len({answer["choices"][0]["text"] for answer in answers}) == 1
    assert network.passes < sum(answer["diffusion"]["passes"] for answer in answers)
    assert b"dream_edge_busy 0.0" in httpx.get(f"{url}/metrics").content


@pytest.mark.parametrize("gate", [2], indirect=True)
def test_a_client_that_goes_leaves_the_others_alone(gate: tuple[str, GatedNetwork]) -> None:
    url, network = gate
    with ThreadPoolExecutor(1) as pool:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
            connection.sendall(request(ASKED))
            assert network.entered.wait(10)
            other = pool.submit(httpx.post, f"{url}/v1/completions", json=ASKED, timeout=60)
            busy(url, 2)
        assert network.cancelled.wait(5)
        busy(url, 1)
        network.gate.set()
        answer = other.result().json()
    assert network.passes == 1 + answer["diffusion"]["passes"]
    alone = dream_edge.load("tiny", threads=1).generate("The old man", raw=True, max_new_tokens=8, exact=True)
    assert answer["choices"][0]["text"] == alone.text


def test_logits_that_are_no_numbers_fail_their_own_request_only() -> None:
    model = dream_edge.load("tiny", threads=1)
    network = SpoilingNetwork(model.network, model.tokenizer.encode(" dog")[0])
    with served(lambda: replace(model, network=network), parallel=4) as url, ThreadPoolExecutor(4) as pool:
        while httpx.get(f"{url}/health").status_code == 503:
            time.sleep(0.01)
        prompts = ["The old man", "The old dog", "The cat", "The boys"]
        bodies = [ASKED | {"prompt": prompt} for prompt in prompts]
        answers = [*pool.map(lambda body: httpx.post(f"{url}/v1/completions", json=body, timeout=60), bodies)]
    assert [answer.status_code for answer in answers] == [200, 500, 200, 200]
    for prompt, answer in zip(prompts, answers, strict=True):
        if answer.status_code == 200:
            alone = model.generate(prompt, raw=True, max_new_tokens=8, exact=True)
            assert answer.json()["choices"][0]["text"] == alone.text


def test_answers_under_load_are_the_same() -> None:
    with served(queue=64, parallel=4) as url, ThreadPoolExecutor(12) as pool:
        asked: list[dict[str, Any]] = [
            {"prompt": f"The {word}", "max_tokens": 6, "temperature": 0.8, "seed": seed, "stream": stream}
            for word in ("dog", "cat")
            for seed in (1, 2)
            for stream in (False, True)
        ] * 4

        def text(body: dict[str, Any]) -> str:
            answer = httpx.post(f"{url}/v1/completions", json=body, timeout=120)
            if answer.status_code == 503:  # still loading
                time.sleep(0.2)
                return text(body)
            if not body["stream"]:
                return str(answer.json()["choices"][0]["text"])
            lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
            return "".join(json.loads(line)["choices"][0]["text"] for line in lines)

        model = dream_edge.load("tiny")
        expected = {
            (each["prompt"], each["seed"]): model.generate(
                each["prompt"], raw=True, max_new_tokens=6, temperature=0.8, seed=each["seed"]
            ).text
            for each in asked[:8]
        }
        assert [*pool.map(text, asked)] == [expected[each["prompt"], each["seed"]] for each in asked]


def test_it_answers_that_it_is_loading() -> None:
    go, model = threading.Event(), dream_edge.load("tiny", threads=1)

    def load() -> DreamModel:
        go.wait(20)
        return model

    with served(load) as url:
        try:
            health = httpx.get(f"{url}/health")
            assert (health.status_code, health.json()["status"]) == (503, "loading")
            refused = httpx.post(f"{url}/v1/completions", json=ASKED)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "loading")
            assert "retry-after" in refused.headers
        finally:
            go.set()
        while httpx.get(f"{url}/health").status_code == 503:
            time.sleep(0.01)


def test_a_model_that_cannot_be_loaded_ends_the_serving(tmp_path: Any) -> None:
    with pytest.raises(ArtifactNotFound):
        serve(lambda: dream_edge.load(tmp_path / "nothing"), "tiny", ServerSettings(port=0), "0")


def test_the_request_under_way_may_end_before_the_server_does() -> None:
    model, network = gated()
    with ThreadPoolExecutor(1) as pool:
        with served(lambda: model, shutdown_seconds=20) as url:
            while httpx.get(f"{url}/health").status_code == 503:
                time.sleep(0.01)
            running = pool.submit(httpx.post, f"{url}/v1/completions", json=ASKED, timeout=60)
            assert network.entered.wait(10)
            threading.Timer(0.2, network.gate.set).start()
        assert running.result().status_code == 200


def test_whoever_waits_hears_that_the_server_stops() -> None:
    model, network = gated()
    with ThreadPoolExecutor(2) as pool:
        with served(lambda: model, parallel=1, shutdown_seconds=1) as url:
            while httpx.get(f"{url}/health").status_code == 503:
                time.sleep(0.01)
            asked: Any = {"url": f"{url}/v1/completions", "timeout": 60}
            running = pool.submit(httpx.post, json=ASKED | {"stream": True}, **asked)
            assert network.entered.wait(10)
            next_one = pool.submit(httpx.post, json=ASKED, **asked)
            waiting(url, 1)
        assert (next_one.result().status_code, next_one.result().json()["error"]["code"]) == (503, "shutting_down")
        *_, told, done = running.result().text.strip().split("\n\n")
        assert json.loads(told.removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert done == "data: [DONE]"


def test_a_stream_is_kept_alive_while_it_waits() -> None:
    model, network = gated()
    with served(lambda: model, idle_seconds=1) as url:
        while httpx.get(f"{url}/health").status_code == 503:
            time.sleep(0.01)
        with httpx.stream("POST", f"{url}/v1/completions", json=ASKED | {"stream": True}, timeout=20) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith(":")
            network.gate.set()
            assert [*lines][-2:] == ["data: [DONE]", ""]


def test_an_error_of_the_network_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    model, network = gated()
    network.gate.set()

    def fail(*_args: Any, **_keywords: Any) -> Any:
        raise RuntimeError("The old man's secret")

    network.forward = fail  # type: ignore[method-assign]
    with served(lambda: model) as url:
        while httpx.get(f"{url}/health").status_code == 503:
            time.sleep(0.01)
        whole = httpx.post(f"{url}/v1/completions", json=ASKED)
        assert whole.status_code == 500
        streamed = httpx.post(f"{url}/v1/completions", json=ASKED | {"stream": True}).text
        for text in (whole.text, streamed):
            assert "secret" not in text
            assert '"server_error"' in text
        assert streamed.endswith("data: [DONE]\n\n")
    assert "secret" not in caplog.text
    told: Any = [record for record in caplog.records if record.message == "failed"]
    assert [(each.error, "test_engine.py" in each.where) for each in told] == [("RuntimeError", True)] * 2


def test_a_client_that_does_not_read_holds_a_bounded_number_of_steps() -> None:
    asyncio.run(_unread())


async def _unread() -> None:
    text = dream_edge.load("tiny", threads=1).stream("The", raw=True, max_new_tokens=1, exact=True)
    step = next(iter(text))
    job = QueuedJob([], threading.Event())
    for _ in range(2):  # what has been read makes room again
        for _ in range(10_000):
            job.put((0, step))
        job.put((0, text.result()))
        await asyncio.sleep(0)
        events = job.events(1)
        read = [event async for event in _until_the_end(events)]
        assert 100 < len(read) < 1000
        assert read[-1] == (0, text.result())


async def _until_the_end(events: Any) -> Any:
    async for event in events:
        yield event
        if isinstance(event[1], Generation):
            return


def test_a_panic_ends_one_request_and_not_the_worker() -> None:
    class Panic(BaseException):
        """As the tokenizer's library raises."""

    model, network = gated()
    network.gate.set()
    forward = network.forward

    def fail(*_args: Any, **_keywords: Any) -> Any:
        network.forward = forward  # type: ignore[method-assign]
        raise Panic

    network.forward = fail  # type: ignore[method-assign]
    with served(lambda: model) as url:
        while httpx.get(f"{url}/health").status_code == 503:
            time.sleep(0.01)
        whole = httpx.post(f"{url}/v1/completions", json=ASKED, timeout=10)
        assert (whole.status_code, whole.json()["error"]["type"]) == (500, "server_error")
        network.forward = fail  # type: ignore[method-assign]
        streamed = httpx.post(f"{url}/v1/completions", json=ASKED | {"stream": True}, timeout=10).text
        assert '"server_error"' in streamed
        assert streamed.endswith("data: [DONE]\n\n")
        assert httpx.post(f"{url}/v1/completions", json=ASKED, timeout=10).status_code == 200


def test_the_queue_is_bounded_and_closes() -> None:
    asyncio.run(_bounded_and_closing())


async def _bounded_and_closing() -> None:
    model = dream_edge.load("tiny", threads=1)
    engine = Engine(lambda: model, 1)
    with pytest.raises(NotLoaded):
        _ = engine.model
    jobs = [QueuedJob([], threading.Event()) for _ in range(3)]
    engine.submit(jobs[0])
    with pytest.raises(QueueFull):
        engine.submit(jobs[1])
    engine.withdraw(jobs[0])
    with pytest.raises(Cancelled):
        _ = [event async for event in jobs[0].events(1)]
    engine.submit(jobs[2])
    engine.close(0)
    with pytest.raises(ShuttingDown):
        _ = [event async for event in jobs[2].events(1)]
    with pytest.raises(ShuttingDown):
        engine.submit(jobs[1])


def request(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = ("POST /v1/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    return "\r\n".join([*head, f"Content-Length: {len(data)}", "", ""]).encode() + data

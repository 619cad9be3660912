"""Many clients for a long time, and clients that leave: nothing is lost, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.slow

CLIENTS = 50
REQUESTS = 10_000
DISCONNECTS = 1_000
PROMPTS = [f"The {word}" for word in ("dog", "cat", "old man", "boys", "garden")]


class Server:
    """`dream-edge serve tiny` in a process of its own."""

    def __init__(self) -> None:
        command = [
            sys.executable,
            "-m",
            "dream_edge",
            "serve",
            "tiny",
            "--port",
            "0",
            "--queue",
            "32",
            "--threads",
            "1",
        ]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        found = re.search(r"http://\S+:\d+", self.process.stderr.readline())
        assert found
        self.url = found[0]
        self.drain = ThreadPoolExecutor(1)
        self.drain.submit(lambda: [None for _ in self.process.stderr or ()])
        while httpx.get(f"{self.url}/health").status_code == 503:
            time.sleep(0.1)

    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text("utf-8").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        return len([*Path(f"/proc/{self.process.pid}/fd").iterdir()])

    def noticed(self) -> int:
        """Clients that went before the end of their answer."""
        found = re.search(r"^dream_edge_disconnects_total (\S+)$", httpx.get(f"{self.url}/metrics").text, re.MULTILINE)
        assert found
        return int(float(found[1]))

    def settle(self) -> None:
        deadline = time.monotonic() + 60
        while httpx.get(f"{self.url}/health").json() != {"status": "ready", "waiting": 0}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(0.5)  # closed connections leave


@pytest.fixture
def server() -> Iterator[Server]:
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory and descriptors are read from /proc")
    running = Server()
    yield running
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) in (0, -signal.SIGTERM)
    running.drain.shutdown()
    assert running.process.stderr is not None
    running.process.stderr.close()


def test_fifty_clients_and_ten_thousand_requests(server: Server) -> None:
    def client(number: int, requests: int) -> tuple[Counter[int], set[tuple[str, str]]]:
        statuses, texts = Counter[int](), set[tuple[str, str]]()
        with httpx.Client(base_url=server.url, timeout=120) as http:
            for index in range(requests):
                prompt = PROMPTS[(number + index) % len(PROMPTS)]
                while True:
                    answer = http.post("/v1/completions", json={"prompt": prompt, "max_tokens": 2})
                    statuses[answer.status_code] += 1
                    if answer.status_code != 429:
                        break
                    time.sleep(0.2)
                texts.add((prompt, answer.json()["choices"][0]["text"]))
        return statuses, texts

    def round_of(requests: int) -> tuple[Counter[int], set[tuple[str, str]]]:
        with ThreadPoolExecutor(CLIENTS) as pool:
            found = [*pool.map(client, range(CLIENTS), [requests // CLIENTS] * CLIENTS)]
        server.settle()
        return sum((each for each, _ in found), Counter()), set().union(*(texts for _, texts in found))

    round_of(1000)  # memory finds its level
    memory, descriptors = server.memory(), server.descriptors()
    start = time.perf_counter()
    statuses, texts = round_of(REQUESTS)
    seconds = time.perf_counter() - start
    grown = server.memory() - memory
    print(f"\n{REQUESTS} requests in {seconds:.0f} s: {dict(statuses)}; {grown / 1e6:+.1f} MB")  # noqa: T201
    assert set(statuses) <= {200, 429}
    assert statuses[200] == REQUESTS
    assert len(texts) == len(PROMPTS)  # the same question, the same answer
    assert server.descriptors() <= descriptors + 2
    assert grown < 16e6


def test_a_thousand_clients_that_leave(server: Server) -> None:
    port = int(server.url.rpartition(":")[2])
    body = b'{"prompt": "The old man", "max_tokens": 64, "exact": true, "stream": true, "diffusing": true}'
    lines = ("POST /v1/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()

    def leave(pieces: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head + body)
            for _ in range(pieces):
                connection.recv(2048)

    def round_of(count: int) -> None:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(leave, index % 4) for index in range(count)]:
                done.result()
        server.settle()

    round_of(100)
    memory, descriptors, noticed = server.memory(), server.descriptors(), server.noticed()
    start = time.perf_counter()
    round_of(DISCONNECTS)
    seconds, grown, noticed = time.perf_counter() - start, server.memory() - memory, server.noticed() - noticed
    print(f"\n{DISCONNECTS} clients left in {seconds:.0f} s; {noticed} noticed; {grown / 1e6:+.1f} MB")  # noqa: T201
    assert noticed == DISCONNECTS
    assert server.descriptors() <= descriptors + 2
    assert grown < 16e6
    answer = httpx.post(f"{server.url}/v1/completions", json={"prompt": "The old man", "max_tokens": 4}, timeout=60)
    assert answer.status_code == 200

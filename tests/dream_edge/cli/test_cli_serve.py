"""`dream-edge serve` as a process: what it prints, logs and exits with."""

from __future__ import annotations

import json
import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from dream_edge.cli.app import app

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
LONG: dict[str, Any] = {"prompt": "Go", "max_tokens": 500, "exact": True, "stream": True, "diffusing": True}


class Serving:
    """The process, its address, and what it has said on stderr since that line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self.process, self.said = process, list[str]()
        found = re.search(r"http://\S+:\d+", process.stderr.readline())
        assert found
        self.url = found[0]
        self._reader = threading.Thread(target=lambda: self.said.extend(process.stderr or ()))
        self._reader.start()
        while httpx.get(f"{self.url}/health").status_code == 503:
            time.sleep(0.05)

    def end(self) -> int:
        status = self.process.wait(30)
        self._reader.join()
        return status


@contextmanager
def serving(*options: str) -> Iterator[Serving]:
    command = [sys.executable, "-m", "dream_edge", "serve", "tiny", "--port", "0", "--threads", "1", *options]
    # a shell's background job ignores Ctrl-C, and so would its children
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        try:
            yield Serving(process)
        finally:
            process.kill()


@posix
def test_log_lines_are_json_without_what_was_said() -> None:
    with serving("--name", "my dream") as opened:
        asked = {"prompt": "Secret words", "max_tokens": 3, "model": "my dream"}
        assert httpx.post(f"{opened.url}/v1/completions", json=asked).status_code == 200
        assert httpx.post(f"{opened.url}/v1/completions", json=asked | {"model": "Secret\nname"}).status_code == 404
        assert httpx.get(f"{opened.url}/Secret%0Apath").status_code == 404
        opened.process.send_signal(signal.SIGTERM)
        assert opened.end() == -signal.SIGTERM
    assert opened.said[0] == "my dream is loaded.\n"
    lines = [json.loads(line) for line in opened.said[1:]]
    assert [line["event"] for line in lines] == ["generated", "answered", "answered", "answered"]
    assert (lines[0]["new_tokens"], lines[0]["finish"], lines[0]["streamed"]) == (3, "length", False)
    assert [(line["route"], line["status"]) for line in lines[1:]] == [
        ("/v1/completions", 200),
        ("/v1/completions", 404),
        ("none", 404),
    ]
    assert "secret" not in "".join(opened.said).lower()


@posix
def test_a_second_interrupt_gives_no_more_time() -> None:
    with serving() as opened, httpx.stream("POST", f"{opened.url}/v1/completions", json=LONG, timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        for _ in range(2):
            opened.process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        start = time.monotonic()
        rest = [line for line in lines if line]
        assert opened.end() == 130
        assert time.monotonic() - start < 8
    assert json.loads(rest[-2].removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert rest[-1] == "data: [DONE]"
    assert opened.said[-1] == "Stopped.\n"
    assert not [line for line in opened.said if "error" in line]


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--host", "0.0.0.0"], 2, "--api-key"),
        (["--host", "nowhere.invalid", "--api-key", "k"], 1, "cannot listen on nowhere.invalid"),
        (["--api-key", "a b"], 2, "printable"),
        (["--allow-origin", "example.org"], 2, "--allow-origin 'example.org': must be an origin such as https://"),
        (["--queue", "0"], 2, "--queue"),
    ],
)
def test_what_cannot_be_is_said_at_once(options: list[str], status: int, said: str) -> None:
    result = CliRunner().invoke(app, ["serve", "tiny", "--port", "0", *options])
    assert result.exit_code == status
    assert said in result.stderr


def test_a_port_that_is_taken_is_named() -> None:
    handlers = [*logging.getLogger("dream_edge.server").handlers]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["serve", "tiny", "--port", port])
    assert result.exit_code == 1
    assert f"port {port}" in result.stderr
    assert "--port" in result.stderr
    assert logging.getLogger("dream_edge.server").handlers == handlers  # its log ends with it

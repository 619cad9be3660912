"""Batches: every request answered once, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import dream_edge
from dream_edge.batches import BatchSummary, LocalEngine, MismatchedResults, UnreadableBatch, run_batch
from dream_edge.batches.requests import parse
from dream_edge.cli.app import app
from dream_edge_runtime.errors import Cancelled, NotWritable, OutputBusy
from dream_edge_runtime.model import DreamModel
from dream_edge_runtime.progress import Progress

WORDS = ("dog", "cat", "old man", "boys", "garden", "lamp", "tree")


@pytest.fixture(scope="module")
def model() -> DreamModel:
    return dream_edge.load("tiny", threads=1)


def completion(number: int, **body: Any) -> dict[str, Any]:
    prompt = f"The {WORDS[number % len(WORDS)]}"
    asked = {"prompt": prompt, "max_tokens": 4, **body}
    return {"custom_id": f"request {number}", "method": "POST", "url": "/v1/completions", "body": asked}


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines), "utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_answers_are_those_of_python(model: DreamModel, tmp_path: Path) -> None:
    question = [{"role": "user", "content": "What sound does the dog make?"}]
    source = write(
        tmp_path / "in.jsonl",
        completion(1),
        {"custom_id": "chat", "url": "/v1/chat/completions", "body": {"messages": question, "max_tokens": 16}},
        "",
        {"custom_id": "fill", "url": "/v1/fill", "body": {"pieces": [{"text": "The old man"}, {"hole": 1}]}},
        completion(2, n=2, seed=3, temperature=1.0),
    )
    told: list[Progress] = []
    found = run_batch(LocalEngine(lambda: model, "tiny"), source, tmp_path / "out.jsonl", progress=told.append)
    assert found == BatchSummary(4, 0, 0, 4)
    assert [each.done for each in told] == [0, 1, 2, 3, 4]
    results = read(tmp_path / "out.jsonl")
    assert [each["custom_id"] for each in results] == ["request 1", "chat", "fill", "request 2"]
    assert {each["response"]["status_code"] for each in results} == {200}
    bodies = [each["response"]["body"] for each in results]
    assert bodies[0]["choices"][0]["text"] == model.generate("The cat", raw=True, max_new_tokens=4).text
    assert bodies[1]["choices"][0]["message"]["content"] == model.chat(question, max_new_tokens=16).text
    assert bodies[2]["choices"][0]["text"] == model.fill(["The old man", 1]).text
    hot = [
        model.generate("The old man", raw=True, max_new_tokens=4, temperature=1.0, seed=seed).text for seed in (3, 4)
    ]
    assert [choice["text"] for choice in bodies[3]["choices"]] == hot


def test_a_bad_request_has_its_error_in_its_line(model: DreamModel, tmp_path: Path) -> None:
    source = write(
        tmp_path / "in.jsonl",
        completion(1, max_tokens=-1),
        completion(2, colour="red"),
        completion(3, stream=True),
        completion(4, model="another"),
        completion(5) | {"url": "/v1/embeddings"},
        completion(6) | {"method": "GET"},
        completion(7) | {"extra": 1},
        "{",
        {"url": "/v1/completions", "body": {}},
        completion(10) | {"body": None},
        completion(11, prompt="x" * 100_000),
        json.dumps(completion(12, top_p=float("nan"))),
        completion(13),
    )
    found = run_batch(LocalEngine(lambda: model, "tiny"), source, tmp_path / "out.jsonl")
    assert (found.done, found.refused) == (13, 12)
    results = read(tmp_path / "out.jsonl")
    assert [each["response"]["status_code"] for each in results] == [400] * 3 + [404] * 2 + [400] * 7 + [200]
    messages = [each["response"]["body"].get("error", {}).get("message", "") for each in results]
    for part, message in zip(
        (
            "max_tokens",
            "colour",
            "stream",
            "another",
            "Urls",
            "method",
            "extra",
            "JSON",
            "custom_id",
            "",
            "context",
            "NaN",
            "",
        ),
        messages,
        strict=True,
    ):
        assert part in message
    assert [each["custom_id"] for each in results[7:9]] == [None, None]
    assert results[11]["custom_id"] == "request 12"


def test_a_second_run_goes_on_after_the_last_whole_line(model: DreamModel, tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", *map(completion, range(5))), tmp_path / "out.jsonl"
    run_batch(LocalEngine(lambda: model, "tiny"), source, out)
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in (b"", lines[0], lines[0] + lines[1][:-1], lines[0] + lines[1] + lines[2][:7], b"".join(lines[:-1])):
        out.write_bytes(kept)
        found = run_batch(LocalEngine(lambda: model, "tiny"), source, out)
        assert found.before == kept.count(b"\n")
        assert [each["custom_id"] for each in read(out)] == [f"request {number}" for number in range(5)]

    def load() -> DreamModel:
        raise AssertionError("nothing is left to do")

    assert run_batch(LocalEngine(load, "tiny"), source, out) == BatchSummary(5, 5, 0, 5)


def test_cancelled_it_keeps_what_is_done(model: DreamModel, tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", *map(completion, range(4))), tmp_path / "out.jsonl"
    cancel = threading.Event()

    def progress(found: Progress) -> None:
        if found.done == 2:
            cancel.set()

    with pytest.raises(Cancelled):
        run_batch(LocalEngine(lambda: model, "tiny"), source, out, cancel=cancel, progress=progress)
    assert len(read(out)) == 2
    assert run_batch(LocalEngine(lambda: model, "tiny"), source, out).before == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_results_of_something_else_are_left_alone(model: DreamModel, tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", completion(1)), tmp_path / "out.jsonl"
    result = {"id": "batch_req_1", "custom_id": "another", "response": None, "error": None}
    for content, why in (
        ("notes\n", "no result"),
        ('{"id": 1}\n', "no result"),
        (json.dumps(result) + "\n", "'another', not 'request 1'"),
        ((json.dumps(result) + "\n") * 2, "second time"),
    ):
        out.write_text(content, "utf-8")
        with pytest.raises(MismatchedResults, match=why):
            run_batch(LocalEngine(lambda: model, "tiny"), source, out)
        assert out.read_text("utf-8") == content


def test_what_is_no_batch_is_said_before_a_model_is_loaded(tmp_path: Path) -> None:
    def load() -> DreamModel:
        raise AssertionError

    twice = write(tmp_path / "twice.jsonl", completion(1), completion(2), completion(1))
    absent, device = tmp_path / "absent.jsonl", Path(os.devnull)
    for source, why in (
        (absent, "No such file"),
        (tmp_path, "director"),
        (device, "is no file"),
        (twice, "lines 1 and 3"),
    ):
        with pytest.raises(UnreadableBatch, match=why):
            run_batch(LocalEngine(load, "tiny"), source, tmp_path / "out.jsonl")
    with pytest.raises(UnreadableBatch, match="overwritten"):
        run_batch(LocalEngine(load, "tiny"), twice, twice)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes")
@pytest.mark.parametrize("kind", ["stdin", "named pipe"])
def test_requests_may_come_through_a_pipe(kind: str, tmp_path: Path) -> None:
    data = write(tmp_path / "in.jsonl", *(completion(number) for number in range(1, 4))).read_bytes()
    out, pipe = tmp_path / "out.jsonl", tmp_path / "pipe"
    command = [sys.executable, "-m", "dream_edge", "batch", "tiny"]
    for before in ("", ", 3 of them before"):  # a second time, it resumes
        if kind == "stdin":
            run = subprocess.run([*command, "/dev/stdin", out], input=data, capture_output=True)
        else:
            pipe.unlink(missing_ok=True)
            os.mkfifo(pipe)
            writer = threading.Thread(target=pipe.write_bytes, args=[data])
            writer.start()
            run = subprocess.run([*command, pipe, out], capture_output=True)
            writer.join()
        assert run.returncode == 0, run.stderr
        assert f"3 answers{before}." in run.stderr.decode()
    assert len(out.read_text().splitlines()) == 3


def test_results_go_to_a_file_only(model: DreamModel, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", completion(1))
    for device in (Path(os.devnull), tmp_path):
        with pytest.raises(NotWritable, match="it is no file"):
            run_batch(LocalEngine(lambda: model, "tiny"), source, device)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_two_runs_do_not_write_into_one_file(model: DreamModel, tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", completion(1)), tmp_path / "out.jsonl"

    def load() -> DreamModel:
        with pytest.raises(OutputBusy):
            run_batch(LocalEngine(lambda: model, "tiny"), source, out)
        return model

    assert run_batch(LocalEngine(load, "tiny"), source, out).done == 1


def test_from_the_command_line(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", completion(1), completion(2, max_tokens=0)), tmp_path / "out.jsonl"
    result = CliRunner().invoke(app, ["batch", "tiny", str(source), str(out)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "2 answers; 1 could not be met" in result.stderr
    result = CliRunner().invoke(app, ["batch", "tiny", str(source), str(out)])
    assert "2 answers, 2 of them before" in result.stderr
    result = CliRunner().invoke(app, ["batch", "tiny", str(tmp_path / "absent"), str(out)])
    assert result.exit_code == 1
    assert "custom_id" in result.stderr


@pytest.mark.slow
def test_killed_twenty_times_it_answers_everything_once(tmp_path: Path) -> None:
    count = 120
    source = write(tmp_path / "in.jsonl", *(completion(number, max_tokens=16, exact=True) for number in range(count)))
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "dream_edge", "batch", "tiny", str(source), str(out), "--threads", "1"]
    chance = random.Random(0)
    kills = 0
    while kills < 20:
        before = out.stat().st_size if out.exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not out.exists() or out.stat().st_size == before):
            time.sleep(0.005)
        time.sleep(chance.random() * 0.05)
        assert process.poll() is None, "it ended before it was killed twenty times: ask for more"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert len(read(out)) < count or not out.read_bytes().endswith(b"\n")
    subprocess.run(command, check=True)
    assert [each["custom_id"] for each in read(out)] == [f"request {number}" for number in range(count)]
    assert {each["response"]["status_code"] for each in read(out)} == {200}


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "\\ud83d"}',
        b'{"prompt": "\xf0\x9f"}',
        b'{"temperature": NaN}',
        b'{"n": 1, "n": 2}',
        b'{"n": 1e999}',
    ],
)
def test_line_that_only_a_strict_reading_refuses_keeps_its_id(body: bytes) -> None:
    line = parse(3, b'{"custom_id": "mine", "url": "/v1/completions", "body": ' + body + b"}")
    assert line.refused is not None
    assert line.custom_id == "mine"

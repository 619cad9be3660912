"""Batches whose files lie where, or look as, other systems have them."""

from __future__ import annotations

import json
import logging
import os
import shutil
from errno import ENOLCK
from pathlib import Path

import pytest

import dream_edge
from dream_edge.batches import LocalEngine, run_batch
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.model import DreamModel

LINE = json.dumps(
    {"custom_id": "é 🐕", "url": "/v1/completions", "body": {"prompt": "The dog", "max_tokens": 4}}, ensure_ascii=False
).encode()


@pytest.fixture(scope="module")
def model() -> DreamModel:
    return dream_edge.load("tiny", threads=1)


def answer(model: DreamModel, source: Path, out: Path) -> list[tuple[str, int]]:
    """The id and status of each answer to the batch at `source`."""
    run_batch(LocalEngine(lambda: model, "tiny"), source, out)
    results = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return [(each["custom_id"], each["response"]["status_code"]) for each in results]


def test_lines_as_windows_ends_them_after_a_byte_order_mark(model: DreamModel, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + LINE + b"\r\n\r\n")
    assert answer(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl") == [("é 🐕", 200)]


@pytest.mark.skipif(os.name == "nt", reason="locks are of another kind there")
def test_batch_is_answered_and_resumed_where_there_are_no_locks(
    model: DreamModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    (tmp_path / "in.jsonl").write_bytes(LINE)
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            assert answer(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl") == [("é 🐕", 200)]
    assert sum("has no locks" in each.getMessage() for each in caplog.records) == 2
    assert {each.name for each in tmp_path.iterdir()} == {"in.jsonl", "out.jsonl"}


def test_paths_may_be_long_and_in_any_script(random_artifact: Path, tmp_path: Path) -> None:
    place = tmp_path.joinpath(*["日本 é 🐕 " + "x" * 50] * 5)
    place.mkdir(parents=True)
    assert len(str(place)) > 300
    shutil.copytree(random_artifact, place / "artifact")
    Artifact.open(place / "artifact").verify()
    (place / "in.jsonl").write_bytes(LINE)
    there = dream_edge.load(place / "artifact", threads=1)
    assert answer(there, place / "in.jsonl", place / "out.jsonl") == [("é 🐕", 200)]

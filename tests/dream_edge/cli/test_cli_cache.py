"""`dream-edge cache` and --as-int8."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dream_edge.cli.app import app
from support.artifacts import make_artifact


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_int8_copy_is_announced_once_listed_and_removed(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path, "int4").path
    asked = ("generate", artifact, "-p", "Hello", "-n", "4", "--steps", "2", "--seed", "1", "--as-int8")
    first, second = (run(*asked) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.stderr
    assert first.stdout == second.stdout
    assert "Keeping an int8 copy of about" in first.stderr
    assert "Keeping" not in second.stderr
    (entry,) = json.loads(run("cache", "--json").stdout)["entries"]
    assert entry["artifact"] == str(artifact)
    assert entry["key"] in run("cache").stdout
    assert "Removed 1 copy (" in run("cache", "--remove", entry["key"]).stdout
    assert "No copies" in run("cache").stdout


def test_nothing_to_requantize_is_one_line(random_artifact: Path) -> None:
    result = run("generate", random_artifact, "-p", "Hello", "-n", "4", "--steps", "2", "--as-int8")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "without --as-int8" in result.stderr


def test_copy_that_could_not_be_loaded_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dream_edge_runtime.inference.memory.free_memory", lambda: 1000)
    result = run("generate", make_artifact(tmp_path, "int4").path, "-p", "a", "-n", "2", "--as-int8")
    assert result.exit_code == 1
    assert "--no-memory-check" in result.stderr
    assert json.loads(run("cache", "--json").stdout)["entries"] == []


def test_unknown_key_is_said() -> None:
    result = run("cache", "--remove", "nothing")
    assert result.exit_code == 1
    assert "dream-edge cache" in result.stderr
    assert run("cache", "--remove", "all").exit_code == 0


def test_too_little_memory_is_one_line(random_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dream_edge_runtime.inference.memory.free_memory", lambda: 1000)
    asked = ("generate", random_artifact, "-p", "a", "-n", "2", "--steps", "1")
    result = run(*asked)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "--no-memory-check" in result.stderr
    assert run(*asked, "--no-memory-check").exit_code == 0

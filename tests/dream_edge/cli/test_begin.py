"""`dream-edge` by itself, and verbs without a model: what is here and what to do, no dump."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dream_edge
from dream_edge.cli.app import app
from support.hub import Hub


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new machine: an empty directory, and no cache."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    return tmp_path / "work"


def begin() -> list[str]:
    result = CliRunner().invoke(app, [])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


@pytest.mark.usefixtures("empty")
def test_a_new_machine_is_pointed_to_recommend() -> None:
    lines = begin()
    models = [line.split()[0] for line in lines if line.startswith("  ")]
    assert models == ["tiny", "tiny-blocks"]
    assert any(line.endswith("dream-edge recommend") for line in lines)
    assert any(line.endswith("dream-edge --help") for line in lines)
    assert len(lines) < 10


@pytest.mark.usefixtures("hub")
def test_models_that_are_here_are_named(random_artifact: Path, empty: Path) -> None:
    shutil.copytree(random_artifact, empty / "mine")
    (empty / "web").mkdir()
    (empty / "web" / "manifest.json").write_text('{"name": "somebody\'s page"}', "utf-8")
    dream_edge.pull("someone/dream")
    models = [line.split(maxsplit=1) for line in begin() if line.startswith("  ")]
    assert models[2:] == [["mine", "int8 artifact"], ["someone/dream", "int8 artifact"]]


@pytest.mark.usefixtures("empty")
def test_a_published_checkpoint_that_was_pulled_is_named(random_checkpoint: Path, hub: Hub) -> None:
    hub.add("Dream-org/Dream-v0-Instruct-7B", random_checkpoint)
    dream_edge.pull("Dream-org/Dream-v0-Instruct-7B")
    assert "  Dream-org/Dream-v0-Instruct-7B  checkpoint: export it" in begin()


@pytest.mark.parametrize("verb", ["generate", "infill", "chat", "serve", "export", "info", "compare", "bench", "sweep"])
def test_a_verb_without_a_model_says_where_to_find_one(verb: str) -> None:
    result = CliRunner().invoke(app, [verb])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "dream-edge recommend" in result.stderr


def test_other_mistakes_say_nothing_of_models() -> None:
    for arguments in (["pull"], ["generate", "tiny", "-n", "x"], ["nonsense"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2
        assert "recommend" not in result.stderr

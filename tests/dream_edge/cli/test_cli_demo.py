"""The demonstration, with stand-ins for the parts that are tested elsewhere."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dream_edge
from dream_edge.cli import demo as module
from dream_edge.cli.app import app
from dream_edge.cli.demo_cases import draw_cases
from dream_edge_runtime.errors import MissingExtra


@pytest.fixture
def random_tiny(monkeypatch: pytest.MonkeyPatch, random_artifact: Path, random_checkpoint: Path) -> None:
    """A random network as the tiny model."""
    monkeypatch.setattr("dream_edge.models.resolve_checkpoint", lambda _, **__: random_checkpoint)
    monkeypatch.setattr(dream_edge, "resolve_artifact", lambda _: random_artifact, raising=False)
    monkeypatch.setattr(module, "_COMPARED", 5)


def table(output: str) -> list[list[str]]:
    lines = output.split("What quantization cost")[1].splitlines()[1:]
    return [line.split() for line in lines[: lines.index("")]]


@pytest.mark.usefixtures("random_tiny")
def test_demo_tells_the_whole_story() -> None:
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("✗ wrong") + result.stdout.count("✓ right") == 10
    _, *rows = table(result.stdout)
    assert [row[0] for row in rows] == ["fp32", "int8", "int4"]
    losses = [float(row[5]) for row in rows]
    assert losses[0] < 1e-5 < losses[1] < losses[2]
    assert "step 1/24" in result.stderr


@pytest.mark.usefixtures("random_tiny")
def test_demo_without_the_export_extra_uses_the_bundled_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str, purpose: str, **_: object) -> None:
        raise MissingExtra(purpose, "export")

    for place in ("models", "exporting"):
        monkeypatch.setattr(f"dream_edge.{place}.open_checkpoint", missing)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 0, result.output
    assert 'pip install "dream-edge[export]"' in result.stdout
    _, row = table(result.stdout)
    assert (row[0], row[5:7]) == ("int8", ["–", "–"])


def test_wrong_answers_are_wrong() -> None:
    for seed in range(5):
        assert not any(case.solves("") or case.solves("1") for case in draw_cases(seed))


def test_seed_draws_the_cases(random_artifact: Path) -> None:
    assert [case.question for case in draw_cases(1)] == [case.question for case in draw_cases(1)]
    assert [case.question for case in draw_cases(1)] != [case.question for case in draw_cases(2)]
    model = dream_edge.load(random_artifact)
    for case in draw_cases(1):
        assert case.begin(model, threading.Event()).result().steps > 0

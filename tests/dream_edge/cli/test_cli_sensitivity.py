"""`dream-edge sensitivity`, and `export --bits` by what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import dream_edge
from dream_edge.cli.app import app
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.tensors import matrix_shapes
from support.checkpoints import write_checkpoint

FORMATS = "int4-128,int4-32,int8-128,int8"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("Ants march over the hill.\n\nOne two three four.\n\nNo.", "utf-8")
    return path


@pytest.fixture(scope="module")
def measured(random_checkpoint: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("measured") / "s.json"
    options = ("--formats", FORMATS, "--data", texts, "--sequences", 4)
    result = run("sensitivity", random_checkpoint, *map(str, options), "--out", path)
    assert result.exit_code == 0, result.stderr
    assert "changes to measure: the work of" in result.stderr
    assert "int4-32: KL in millionths of a nat" in result.stdout
    assert "measured together" in result.stdout
    return path


def test_measuring_again_finds_everything_known(random_checkpoint: Path, texts: Path, measured: Path) -> None:
    before = measured.read_bytes()
    options = ("--formats", FORMATS, "--data", texts, "--sequences", 4)
    result = run("sensitivity", random_checkpoint, *map(str, options), "--out", measured, "--json")
    assert result.exit_code == 0, result.stderr
    assert "0 changes to measure; " in result.stderr
    assert json.loads(result.stdout) == json.loads(measured.read_text("utf-8"))
    assert measured.read_bytes() == before


def test_a_budget_is_spent_and_what_comes_of_it_runs(
    random_checkpoint: Path, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4-bit groups of two sizes, 8-bit groups and rows in one graph; also as an int8 copy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "out"
    result = run("export", random_checkpoint, out, "--scheme", "mixed", "--bits", "5.6", "--sensitivity", measured)
    assert result.exit_code == 0, result.stderr
    manifest = Artifact.open(out).manifest
    formats = manifest.recipe.targets["cpu"]
    assert 5.4 < formats.bits_per_weight(manifest.config) <= 5.6
    products = {name: formats.of(name) for name in matrix_shapes(manifest.config) if "layers" in name}
    assert {(each.bits, each.block_size) for each in products.values()} >= {(4, 128), (4, 32)}
    assert max(each.bits for each in products.values()) == 8
    chosen_by = manifest.provenance["recipe_chosen_by"]
    assert chosen_by["bits"] == 5.6
    assert chosen_by["measured_on"]["sequences"] == 4
    assert "chosen by its measured loss within 5.6 bits per weight" in (out / "README.md").read_text("utf-8")
    for as_int8 in (False, True):
        model = dream_edge.load(out, as_int8=as_int8, threads=1)
        assert isinstance(model.generate("Ants", max_new_tokens=4, raw=True, seed=1).text, str)
    assert run("info", out).exit_code == 0


@pytest.mark.slow
def test_without_measurements_they_are_made_first_and_kept(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dream_edge.quality.texts.read.calibration_texts", lambda: ["Ants march.", "One two three four."]
    )
    out = tmp_path / "out"
    result = run("export", random_checkpoint, out, "--scheme", "mixed", "--bits", "12")
    kept = tmp_path / "out.sensitivity.json"
    assert result.exit_code == 2  # only now is it known what they take
    assert "--bits 12.0: must lie between" in result.stderr
    assert len(json.loads(kept.read_text("utf-8"))["effects"]) > 40
    assert not out.exists()
    result = run("export", random_checkpoint, out, "--scheme", "mixed", "--bits", "6")
    assert result.exit_code == 0, result.stderr
    assert "0 changes to measure" in result.stderr
    assert Artifact.open(out).manifest.provenance["recipe_chosen_by"]["bits"] == 6


def test_nothing_is_measured_for_an_export_that_is_refused(random_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    result = run("export", random_checkpoint, tmp_path / "out", "--scheme", "mixed", "--bits", "6")
    assert result.exit_code == 1
    assert "already exists" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scheme", "int4", "--bits", "5"], "belongs to mixed"),
        (["--scheme", "mixed", "--bits", "5", "--target", "cuda"], "--target cpu"),
        (["--scheme", "mixed", "--bits", "5", "--block-size", "32"], "--block-size"),
        (["--scheme", "mixed", "--sensitivity", "s.json"], "--bits"),
    ],
)
def test_options_that_contradict_a_budget_are_refused(options: list[str], said: str, tmp_path: Path) -> None:
    result = run("export", "nowhere", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("bits", ["2", "40", "-1", "nan"])
def test_impossible_budgets_are_refused_with_the_range(
    random_checkpoint: Path, measured: Path, tmp_path: Path, bits: str
) -> None:
    out = tmp_path / "out"
    result = run("export", random_checkpoint, out, "--scheme", "mixed", "--bits", bits, "--sensitivity", measured)
    assert result.exit_code == 2
    assert "must lie" in result.stderr
    assert not out.exists()


def test_measurements_of_another_checkpoint_are_refused(measured: Path, texts: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "other", hidden_size=128, intermediate_size=256, seed=5)
    result = run(
        "export", tmp_path / "other", tmp_path / "out", "--scheme", "mixed", "--bits", "5.6", "--sensitivity", measured
    )
    assert result.exit_code == 1
    assert "another checkpoint" in result.stderr
    options = ("--formats", FORMATS, "--data", texts, "--sequences", 4)
    result = run("sensitivity", tmp_path / "other", *map(str, options), "--out", measured)
    assert result.exit_code == 1
    assert "another checkpoint" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--formats", "int3"], 2, "int4-N"),
        (["--formats", ""], 2, "int4-N"),
        (["--formats", "nf4-256"], 2, "do not divide"),
        (["--data", "nowhere.txt"], 1, "nowhere.txt"),
        (["--out", "nowhere/s.json"], 1, "nowhere/s.json"),
    ],
)
def test_what_cannot_be_measured_is_said(
    random_checkpoint: Path, texts: Path, options: list[str], code: int, said: str
) -> None:
    result = run("sensitivity", random_checkpoint, "--data", texts, *options)
    assert result.exit_code == code
    assert said in result.stderr

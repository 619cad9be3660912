"""`dream-edge sweep`, and `compare` with a report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dream_edge.cli.app import app
from dream_edge.quality.report.markdown import BEGIN
from dream_edge_export.export import export as write_artifact


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result.output


def sweep(checkpoint: Path, out: Path, *arguments: object, code: int = 0) -> str:
    few = ("--sequences", 4, "--longest", 24, "--no-trajectory")
    return run("sweep", checkpoint, "--schemes", "int8,int4-32", "--out", out, *few, *arguments, code=code)


def test_a_sweep_exports_compares_draws_and_recommends(random_checkpoint: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "sweep", tmp_path / "report"
    said = sweep(random_checkpoint, out, "--report", report, "--memory", "8GB")
    assert {each.name for each in out.iterdir()} == {"int8", "int4-32", "base"}
    assert json.loads((out / "int4-32" / "manifest.json").read_text("utf-8"))["recipe"]["targets"]["cpu"]["body"] == {
        "bits": 4,
        "block_size": 32,
        "kind": "block",
        "symmetric": False,
        "table": False,
    }
    assert "For 8.0 GB of memory: take int8." in said
    found = json.loads((report / "report.json").read_text("utf-8"))
    assert found["advice"]["chosen"] == "int8"
    assert "Size against loss" in (report / "report.html").read_text("utf-8")


def test_a_sweep_leaves_alone_what_is_whole(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    report = tmp_path / "report"

    def interrupted(checkpoint: Any, out: Path, *given: Any, **options: Any) -> Any:
        if "int8" in written:
            raise KeyboardInterrupt
        written.append(out.name)
        return write_artifact(checkpoint, out, *given, **options)

    monkeypatch.setattr("dream_edge_export.export.export", interrupted)
    sweep(random_checkpoint, tmp_path / "sweep", "--report", report, code=130)
    assert [each.name for each in (tmp_path / "sweep").iterdir()] == ["int8"]
    assert not report.exists()

    def watched(checkpoint: Any, out: Path, *given: Any, **options: Any) -> Any:
        written.append(out.name)
        return write_artifact(checkpoint, out, *given, **options)

    monkeypatch.setattr("dream_edge_export.export.export", watched)
    sweep(random_checkpoint, tmp_path / "sweep", "--report", report)
    assert written == ["int8", "int4-32"]
    assert (report / "report.html").is_file()


def test_an_artifact_made_otherwise_is_replaced_only_when_asked(random_checkpoint: Path, tmp_path: Path) -> None:
    run("export", random_checkpoint, tmp_path / "sweep" / "int8", "--scheme", "fp16")
    assert "--force" in sweep(random_checkpoint, tmp_path / "sweep", code=1)
    sweep(random_checkpoint, tmp_path / "sweep", "--force")
    assert json.loads((tmp_path / "sweep" / "int8" / "manifest.json").read_text("utf-8"))["recipe"]["scheme"] == "int8"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--memory", "lots"), ("--memory", "0GB"), ("--schemes", "int3"), ("--schemes", "int8-32")],
)
def test_bad_options_are_refused_before_anything_is_made(
    option: str, value: str, random_checkpoint: Path, tmp_path: Path
) -> None:
    sweep(random_checkpoint, tmp_path / "sweep", option, value, code=2)
    assert not (tmp_path / "sweep").exists()


def test_compare_writes_a_report_and_the_card(random_artifact: Path, random_checkpoint: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "<b>int8"
    shutil.copytree(random_artifact, artifact)
    few = ("--reference", random_checkpoint, "--sequences", 4, "--longest", 24, "--no-trajectory")
    run("compare", artifact, *few, "--report", tmp_path / "report", "--update-card")
    assert "&lt;b&gt;int8" in (tmp_path / "report" / "report.html").read_text("utf-8")
    assert BEGIN in (artifact / "README.md").read_text("utf-8")
    run("verify", artifact)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("words", "utf-8")
    assert "not touched" in run("compare", artifact, *few, "--report", tmp_path / "mine", code=1)

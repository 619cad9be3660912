"""`optimum-cli export dream-edge`, by the real Optimum."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dream_edge.cli.app import app
from dream_edge.cli.optimum import add_options, run

ROOT = Path(__file__).parents[2]


def optimum_cli(*arguments: str | Path, also: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Optimum's command line with this dream-edge, and with what is in the directory `also`."""
    paths = os.pathsep.join([*(str(ROOT / part) for part in ("", "runtime", "export")), str(also)])
    command = [sys.executable, "-m", "optimum.commands.optimum_cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser)
    return parser.parse_args(arguments)


def test_artifact_is_the_one_that_dream_edge_writes(random_checkpoint: Path, tmp_path: Path) -> None:
    options = ("--scheme", "int4", "--block-size", "64", "--symmetric")
    done = optimum_cli("export", "dream-edge", "-m", random_checkpoint, *options, tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'a'}: int4, ")
    CliRunner().invoke(app, ["export", str(random_checkpoint), str(tmp_path / "b"), *options])
    written = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert written[0] == written[1]


def test_help_of_optimum_lists_the_command() -> None:
    assert "dream-edge" in optimum_cli("export", "--help").stdout


def test_second_copy_on_the_path_does_not_end_optimum(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "optimum", tmp_path / "optimum")
    done = optimum_cli("export", "--help", also=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dream-edge" in done.stdout


def test_every_option_of_the_export_is_taken() -> None:
    help_text = CliRunner().invoke(app, ["export", "--help"]).stdout
    offered = {word.strip(",.:;") for word in help_text.split() if word.startswith("--") and word != "--help"}
    parser = argparse.ArgumentParser()
    add_options(parser)
    taken = {name for action in parser._actions for name in action.option_strings}
    assert {name for each in offered for name in each.split("/")} <= taken


def test_order_of_the_arguments_does_not_matter() -> None:
    for arguments in (
        ["-m", "model", "out", "--scheme", "int4", "--force"],
        ["--scheme", "int4", "--force", "--model", "model", "out"],
        ["out", "--scheme=int4", "--force", "-mmodel"],
    ):
        found = parsed(*arguments)
        assert (found.model, found.places, found.passed) == ("model", ["out"], ["--scheme", "int4", "--force"])


def test_bad_value_ends_as_it_does_for_dream_edge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(parsed("-m", "tiny", str(tmp_path / "out"), "--scheme", "int3"))
    assert ended.value.code == 2
    assert "int3" in capsys.readouterr().err


def test_without_typer_optimum_still_works_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dream_edge.cli.app")
    for name in ("typer", "typer.main"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit, match=r"dream-edge\[cpu\]"):
        run(parsed("-m", "tiny", "out", "--scheme", "int4"))

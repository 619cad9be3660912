"""`optimum-cli export dream-edge`, by the real Optimum."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from dream_edge.cli.app import app

ROOT = Path(__file__).parents[3]


def optimum_cli(*arguments: str | Path, also: Path = ROOT, first: bool = False) -> subprocess.CompletedProcess[str]:
    """Optimum's command line with this dream-edge, and with what is in the directory `also`, before it if `first`."""
    ours = [str(ROOT / part) for part in ("", "runtime", "export")]
    paths = os.pathsep.join([str(also), *ours] if first else [*ours, str(also)])
    command = [sys.executable, "-m", "optimum.commands.optimum_cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


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


def test_help_is_that_of_the_export() -> None:
    ours = CliRunner().invoke(app, ["export", "--help"], prog_name="dream-edge").stdout
    assert optimum_cli("export", "dream-edge", "--help").stdout.split() == ours.split()


def test_order_of_the_arguments_does_not_matter(random_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint, out = str(random_checkpoint), str(tmp_path / "out")
    for arguments in (
        ["--scheme", "int4", "--force", "--model", checkpoint, out],
        [out, "--scheme=int4", "--force", f"-m{checkpoint}"],
    ):
        assert optimum_cli("export", "dream-edge", *arguments).stdout.startswith(f"{out}: int4, ")


def test_bad_value_ends_as_it_does_for_dream_edge(tmp_path: Path) -> None:
    done = optimum_cli("export", "dream-edge", "-m", "tiny", tmp_path / "out", "--scheme", "int3")
    assert done.returncode == 2
    assert "int3" in done.stderr


def test_without_typer_optimum_still_works_and_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(name='typer')\n", "utf-8")
    done = optimum_cli("export", "dream-edge", "-m", "tiny", "out", "--scheme", "int4", also=tmp_path, first=True)
    assert done.returncode == 1
    assert "dream-edge[cpu]" in done.stderr

"""The frozen editor: built as docs/desktop.md says, and run where there is no Python. Needs PyPI, and minutes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TEXT = "The old man [[1]] because he [[1]] hungry."


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program in a directory with a blank in its name, the environment it was built in gone."""
    folder = tmp_path_factory.mktemp("frozen")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = folder / "venv" / "bin" / "python"

    def run(*command: str) -> None:
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=900)

    run(sys.executable, "-m", "venv", str(folder / "venv"))
    run(str(python), "-m", "pip", "install", "-q", "-c", "constraints.txt", ".[cpu,desktop]", "pyinstaller")
    spec = "examples/desktop/dream-editor.spec"
    places = ("--distpath", str(folder / "dist"), "--workpath", str(folder / "work"))
    run(str(python), "-m", "PyInstaller", "--noconfirm", *places, spec)
    shutil.rmtree(folder / "venv")
    moved = folder / "another place"
    shutil.move(folder / "dist" / "dream-editor", moved)
    yield moved / "dream-editor"
    shutil.rmtree(folder)  # it is large


ENVIRONMENT = {"HOME": "/nonexistent", "PATH": "/nonexistent", "QT_QPA_PLATFORM": "offscreen", "LANG": "C.UTF-8"}
"""No Python, nor anything else, on the path."""


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(program), *arguments]
    return subprocess.run(command, env=ENVIRONMENT, cwd="/", capture_output=True, text=True, timeout=120)


def test_it_generates_without_python(program: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text(TEXT, "utf-8")
    done = run(program, "--print", str(letter))
    assert done.returncode == 0, done.stderr
    before, between, after = TEXT.split("[[1]]")
    assert done.stdout.startswith(before)
    assert between in done.stdout
    assert done.stdout.endswith(after)
    assert "[" not in done.stdout


def test_its_window_opens_and_writes(program: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text(TEXT, "utf-8")
    command, seen = [str(program), "--verbose", "--fill", str(letter)], list[str]()
    with subprocess.Popen(command, env=ENVIRONMENT, cwd="/", stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        late = threading.Timer(120, process.kill)
        late.start()
        for line in process.stderr:
            seen += [line.strip()] if line.strip() in ("window shown", "model loaded", "text written") else []
            if "text written" in seen:
                process.kill()
        late.cancel()
    assert seen == ["window shown", "model loaded", "text written"]


def test_its_errors_are_told_without_a_traceback(program: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text(TEXT, "utf-8")
    done = run(program, "--print", str(letter), "--model", "/no/such/artifact")
    assert done.returncode == 1
    assert "no artifact here" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_brings_nothing_heavy_and_the_licences(program: Path) -> None:
    parts = {path.name for path in (program.parent / "_internal").iterdir()}
    assert not parts & {"torch", "onnx", "transformers", "matplotlib", "scipy", "pandas", "dream_edge_export"}
    licences = {path.name for path in (program.parent / "_internal" / "licences").iterdir()}
    assert licences >= {"Python", "dream-edge", "numpy", "onnxruntime"}
    size = sum(path.stat().st_size for path in program.parent.rglob("*") if path.is_file() and not path.is_symlink())
    assert size < 350e6

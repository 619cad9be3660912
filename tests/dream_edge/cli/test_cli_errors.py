"""What a user can get wrong: one line on stderr, the right exit code, nothing on stdout, no traceback."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dream_edge.cli import exit_codes
from dream_edge.cli.app import app

USAGE = {
    "unknown verb": ("fly", "No such command"),
    "unknown option": ("generate {artifact} -p x --sedd 1", "--seed"),
    "missing argument": ("generate -p x", "ARTIFACT"),
    "missing prompt": ("generate {artifact}", "--prompt"),
    "not a number": ("generate {artifact} -p x --steps many", "--steps"),
    "no steps": ("generate {artifact} -p x --steps 0", "--steps"),
    "no tokens": ("generate {artifact} -p x -n 0", "-n"),
    "far too many tokens": ("generate {artifact} -p x -n 99999999", "-n/--max-new-tokens 99999999"),
    "unknown algorithm": ("generate {artifact} -p x --alg best", "entropy"),
    "top-p over 1": ("generate {artifact} -p x --top-p 1.5", "--top-p 1.5: must lie in (0, 1]"),
    "top-p is no number": ("generate {artifact} -p x --top-p nan", "--top-p nan"),
    "negative temperature": ("generate {artifact} -p x --temperature=-1", "--temperature -1.0"),
    "infinite alg-temp": ("generate {artifact} -p x --alg-temp inf", "--alg-temp inf"),
    "eps of 1": ("generate {artifact} -p x --eps 1", "--eps 1.0"),
    "threshold of 0": ("generate {artifact} -p x --threshold 0", "--threshold 0.0"),
    "exact with threshold": ("generate {artifact} -p x --exact --threshold 0.9", "--threshold"),
    "exact with entropy bound": ("infill {artifact} --template [[1]] --exact --reveal entropy_bound:1", "--reveal"),
    "factor of nothing": ("generate {artifact} -p x --reveal factor:0", "--reveal 'factor:0': must lie"),
    "threshold and factor": (
        "generate {artifact} -p x --threshold 0.9 --reveal factor",
        "--reveal 'factor:1': contradicts threshold=0.9",
    ),
    "exact with cache": ("generate {artifact} -p x --exact --cache dual", "--cache"),
    "exact with blocks": ("infill {artifact} --template [[1]] --exact --block-length 4", "--block-length"),
    "unknown cache": ("generate {artifact} -p x --cache both", "prefix"),
    "block of nothing": ("generate {artifact} -p x --block-length 0", "--block-length"),
    "negative window": ("generate {artifact} -p x --suffix-window=-1", "--suffix-window"),
    "compare with neither": ("compare {artifact}", "--base"),
    "compare on other data than the base's": ("compare {artifact} --base {new} --data {new}", "--data"),
    "compare with another seed than the base's": ("compare {artifact} --base {new} --seed 1", "--seed"),
    "saving what is there": ("compare {artifact} --base {new} --save-base {new}", "contradicts --base"),
    "empty stop": ("generate {artifact} -p x --stop=", "--stop"),
    "bos without raw": ("generate {artifact} -p x --bos", "--bos"),
    "ending too long": ("generate {artifact} -p x -n 2 --end-with abcdefghijklmnop", "--end-with"),
    "no threads": ("generate {artifact} -p x --threads 0", "--threads"),
    "unknown device": ("generate {artifact} -p x --device tpu", "--device"),
    "neither length nor template": ("infill {artifact} --prefix a", "--length"),
    "a draft and a length": ("infill {artifact} --draft a --length 1", "--draft"),
    "template and prefix": ("infill {artifact} --template [[1]] --prefix a", "--template"),
    "scheme missing": ("export {checkpoint} {new}", "--scheme"),
    "unknown scheme": ("export {checkpoint} {new} --scheme int3", "int3"),
    "odd block size": ("export {checkpoint} {new} --scheme int4 --block-size 33", "--block-size 33"),
    "block size of int8": ("export {checkpoint} {new} --scheme int8 --block-size 32", "--block-size 32"),
}
FAILURES = {
    "no such artifact": ("generate {new} -p x", "dream-edge export"),
    "checkpoint for artifact": ("generate {checkpoint} -p x", "dream-edge export {checkpoint}"),
    "artifact for checkpoint": ("export {artifact} {new} --scheme int8", "config.json"),
    "no such checkpoint": ("export {new} {new} --scheme int8", "{new}"),
    "output exists": ("export {checkpoint} {artifact} --scheme int8", "--force"),
    "output is not ours": ("export {checkpoint} {foreign} --scheme int8 --force", "{foreign}"),
    "empty prompt": ("generate {artifact} --prompt=", "prompt is empty"),
    "canvas too long": ("generate {artifact} -p x -n 4096", "context is 512"),
    "hole too long": ("infill {artifact} --template [[4096]]", "context is 512"),
    "an empty draft": ("infill {artifact} --draft=", "a draft must have a text"),
    "template without hole": ("infill {artifact} --template text", "[[N]]"),
    "no CUDA": ("generate {artifact} -p x --device cuda", "cuda"),
    "no such scheme of tiny": ("generate tiny-int3 -p x", "tiny-int3"),
    "info of nothing": ("info {new}", "no artifact here"),
    "verify nothing": ("verify {new}", "no artifact here"),
    "compare with nothing": ("compare {artifact} --reference {new}", "{new}"),
    "compare with no base": ("compare {artifact} --base {new}", "--save-base {new}"),
    "compare with a wrong base": ("compare {artifact} --base {foreign}/diary.txt", "no base file"),
    "a base in the place of another file": (
        "compare {artifact} --reference {checkpoint} --save-base {foreign}/diary.txt",
        "something else",
    ),
    "compare on no data": ("compare {artifact} --reference {checkpoint} --data {new}", "{new}"),
}


@pytest.fixture
def places(random_artifact: Path, random_checkpoint: Path, tmp_path: Path) -> dict[str, str]:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "diary.txt").write_text("mine", "utf-8")
    return {
        "artifact": str(random_artifact),
        "checkpoint": str(random_checkpoint),
        "new": str(tmp_path / "new"),
        "foreign": str(foreign),
    }


def fail(command: str, places: dict[str, str], code: int) -> str:
    arguments = [part.format(**places) for part in command.split()]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("dream-edge: ")]
    assert len(said) == 1
    return said[0]


@pytest.mark.parametrize(("command", "says"), USAGE.values(), ids=USAGE)
def test_usage(command: str, says: str, places: dict[str, str]) -> None:
    assert says in fail(command, places, exit_codes.USAGE)


@pytest.mark.parametrize(("command", "says"), FAILURES.values(), ids=FAILURES)
def test_failure(command: str, says: str, places: dict[str, str]) -> None:
    assert says.format(**places) in fail(command, places, exit_codes.FAILED)


def test_forbidden_replacement_keeps_the_files(places: dict[str, str]) -> None:
    fail("export {checkpoint} {foreign} --scheme int8 --force", places, exit_codes.FAILED)
    assert [file.name for file in Path(places["foreign"]).iterdir()] == ["diary.txt"]


def test_stdin_that_is_not_utf8(places: dict[str, str]) -> None:
    result = CliRunner().invoke(app, ["generate", places["artifact"], "-p", "-"], input=b"caf\xe9 latin")
    assert (result.exit_code, result.stdout) == (exit_codes.USAGE, "")
    assert re.search(r"not UTF-8 \(at byte 3\)", result.stderr)


def test_lone_surrogate_in_an_argument(places: dict[str, str]) -> None:
    result = CliRunner().invoke(app, ["generate", places["artifact"], "-p", "a\udcff"])
    assert (result.exit_code, result.stdout) == (exit_codes.FAILED, "")
    assert "lone surrogate" in result.stderr


def test_line_ends_in_a_name_stay_on_the_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["info", str(tmp_path / "two\nlines\x1b[2J")])
    assert result.exit_code == exit_codes.FAILED
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr


def test_damaged_manifest(random_artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(random_artifact, tmp_path / "artifact")
    (tmp_path / "artifact" / "manifest.json").write_text("{", "utf-8")
    result = CliRunner().invoke(app, ["generate", str(tmp_path / "artifact"), "-p", "x"])
    assert result.exit_code == exit_codes.FAILED
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "verb", ["export {checkpoint} {new} --scheme int8", "compare {artifact} --reference {checkpoint}"]
)
def test_missing_export_extra_is_named(verb: str, places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "dream_edge_export.checkpoint.checkpoint", "dream_edge_export.export"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    assert 'pip install "dream-edge[export]"' in fail(verb, places, exit_codes.FAILED)

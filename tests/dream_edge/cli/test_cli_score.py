"""`dream-edge score`: the table, the JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from dream_edge.cli.app import app
from dream_edge.tasks import PARALLEL
from dream_edge_runtime.generation.options import DEFAULT_PRESET


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def test_a_line_of_the_table_for_each_task_and_setting() -> None:
    result = run("tiny", "--tasks", "puzzle/sudoku", "--raw", "--shots", "0", "--cases", "2", "--settings", "8,0.9")
    assert result.exit_code == 0, result.output
    title, head, *rows = result.stdout.splitlines()
    assert title == "tiny, asked in plain text; points against one token a step"
    assert head.split() == "task setting solved 95% passes tokens a pass points lost gained p cases".split()
    assert [row.split()[:2] for row in rows] == [["puzzle/sudoku", setting] for setting in ("1", "8", "0.9")]
    assert rows[0].split()[2:] == ["100%", "34%–100%", "24.0", "0.79", "+0", "0", "0", "1", "2"]


def test_every_task_is_asked_of_any_model(random_artifact: Path, tmp_path: Path) -> None:
    keep = tmp_path / "answers.jsonl"
    result = run(random_artifact, "--cases", "1", "--settings", "64", "--keep", keep, "--json", "--threads", "1")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["chat"] is True
    names = [*PARALLEL, "line", "text", "puzzle", "all"]
    assert [(row["task"], row["setting"]) for row in found["rows"]] == [(n, s) for n in names for s in ("1", "64")]
    assert found["rows"][-1]["cases"] == 17
    assert len(keep.read_text("utf-8").splitlines()) == 34


def test_the_default_preset_and_two_and_four_tokens_by_default() -> None:
    result = run("tiny-blocks", "--tasks", "puzzle", "--holes", "--cases", "1", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["setting"] for row in found["rows"][:4]] == ["1", DEFAULT_PRESET, "2", "4"]
    assert found["holes"] is True


def test_bad_values_are_one_line_and_exit_code_two() -> None:
    for option, value in (("--tasks", "line/juggle"), ("--settings", "quick")):
        result = run("tiny", option, value)
        assert result.exit_code == 2, result.output
        assert value in result.stderr
        assert "Traceback" not in result.output

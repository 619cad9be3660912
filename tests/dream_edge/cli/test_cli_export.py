"""`dream-edge export`: what it says before, meanwhile and when it is stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from dream_edge.cli.app import app
from dream_edge.cli.terminal.progress import show_progress
from dream_edge_export.output.staging import locate_staging
from dream_edge_runtime.progress import Progress
from support.checkpoints import write_checkpoint

ROOT = Path(__file__).parents[3]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_sizes_room_memory_and_time_are_said_before(random_checkpoint: Path, tmp_path: Path) -> None:
    result = run(random_checkpoint, tmp_path / "out", "--scheme", "int4")
    assert result.exit_code == 0
    first, second, *_ = result.stderr.splitlines()
    assert re.fullmatch(r".*checkpoint: [\d.]+ k parameters in 1 file", first)
    stored = (tmp_path / "out" / "weights-00001.bin").stat().st_size
    assert f"Writing {stored / 1000:.1f} kB as int4" in second
    assert re.search(r"where [\d.]+ [GM]B are free; it takes [\d.]+ MB of memory and about (a second|\d+ s)$", second)
    assert result.stdout.count("\n") == 1


def test_nothing_is_announced_that_is_refused(random_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", "utf-8")
    result = run(random_checkpoint, tmp_path / "out", "--scheme", "int4")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"dream-edge: {tmp_path / 'out'} already exists. Pass --force to replace it, or name another directory."
    ]


def test_stopped_export_says_how_to_go_on_or_to_give_it_up(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o u t"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dream_edge_export.export.write_file", stop)
        result = run(random_checkpoint, out, "--scheme", "int4")
    assert result.exit_code == 130
    *_, kept, remove, last = result.stderr.splitlines()
    assert "the same command resumes there" in kept
    assert (remove, last) == (f"  rm -r '{locate_staging(out)}'", "Stopped.")
    result = run(random_checkpoint, out, "--scheme", "int4")
    assert result.exit_code == 0
    assert f"left in {locate_staging(out)}" in result.stderr
    assert not locate_staging(out).exists()


def test_speed_is_counted_from_where_a_task_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([100.0, 110.0, 120.0, 130.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with show_progress() as show:
        show(Progress("working", 50, 100, "pieces"))  # done by an earlier run
        show(Progress("working", 60, 100, "pieces"))
        show(Progress("ending", 0, 1000, "bytes"))
        show(Progress("ending", 500, 1000, "bytes"))
    assert capsys.readouterr().err.splitlines() == [
        "Working: 60 of 100 pieces (60%), about 40 s left",
        "Ending: 500 B of 1.0 kB (50%), about 10 s left",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_of_a_process_keeps_the_work_and_the_next_one_ends_the_same(tmp_path: Path) -> None:
    geometry = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 8, "num_hidden_layers": 3}
    write_checkpoint(tmp_path / "checkpoint", dtype=torch.bfloat16, **geometry)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "runtime", "export"))}
    command = [sys.executable, "-m", "dream_edge", "export", str(tmp_path / "checkpoint"), "--scheme", "int4"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "out")],
        env={**environment, "LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0"},
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    shard = locate_staging(tmp_path / "out") / "artifact" / "weights-00001.bin"
    while not shard.exists() or shard.stat().st_size < 3_000_000:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("Stopped.\n")
    assert "resumes there" in said
    for out, locale in (("out", "C"), ("undisturbed", "C.UTF-8")):
        subprocess.run(
            [*command, str(tmp_path / out)], env={**environment, "LC_ALL": locale}, check=True, capture_output=True
        )
    both = [{file.name: file.read_bytes() for file in (tmp_path / out).iterdir()} for out in ("out", "undisturbed")]
    assert both[0] == both[1]

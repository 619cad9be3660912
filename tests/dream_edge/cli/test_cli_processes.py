"""What only a process of its own can show: signals, closed pipes, real streams, a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

PROGRAM = (sys.executable, "-m", "dream_edge")
ROOT = Path(__file__).parents[3]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "runtime", "export")),
    "PYTHONIOENCODING": "utf-8",
}
LONG = ("-n", "400", "--steps", "400", "--alg", "origin", "--visual")
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and terminals")


def start(arguments: Sequence[str | Path], stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=ENVIRONMENT,
        # a shell's background job ignores Ctrl-C, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


def test_streams_of_a_process(random_artifact: Path) -> None:
    arguments = ["generate", str(random_artifact), "-p", "-", "-n", "4", "--steps", "4", "--visual", "--seed", "1"]
    done = subprocess.run(
        [*PROGRAM, *arguments], input=b"caf\xc3\xa9\n", capture_output=True, env=ENVIRONMENT, timeout=60
    )
    assert done.returncode == 0
    assert b"step" not in done.stdout
    assert done.stderr.decode().splitlines()[-1].endswith("seed 1")


@pytest.mark.parametrize("encoding", ["cp1252", "cp932"])
@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_not_a_terminal_is_utf_8_whatever_the_code_page(
    random_artifact: Path, encoding: str, as_json: bool
) -> None:
    given, said = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}, "日本 é 🐕 "
    arguments = ["infill", str(random_artifact), "--prefix", said, "--length", "2", *(["--json"] if as_json else [])]
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, env=given, timeout=60)
    assert done.returncode == 0
    text = done.stdout.decode("utf-8")
    assert (json.loads(text)["text"] if as_json else text).startswith(said)
    arguments = ["generate", "no 日本 é", "-p", "x"]
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, env=given, timeout=60)
    assert "no 日本 é" in done.stderr.decode("utf-8")


def test_prompt_as_windows_writes_it_is_read_as_any_other(random_artifact: Path) -> None:
    arguments = ["generate", str(random_artifact), "-p", "-", "-n", "4", "--steps", "4", "--seed", "1", "--json"]
    answers = [
        json.loads(subprocess.run([*PROGRAM, *arguments], input=data, capture_output=True, env=ENVIRONMENT).stdout)
        for data in ("é".encode(), "\ufeffé\r\n".encode())
    ]
    assert len({answer["text"] for answer in answers}) == 1
    assert len({answer["prompt_tokens"] for answer in answers}) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("verb", [["generate"], ["generate", "--json"], ["info"], ["--help"], ["--version"]])
def test_output_that_cannot_be_written_is_one_line(random_artifact: Path, verb: list[str]) -> None:
    arguments = {
        "generate": [str(random_artifact), "-p", "x", "-n", "4", "--steps", "4"],
        "info": [str(random_artifact)],
    }
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, *verb, *arguments.get(verb[0], [])], stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT
        )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert [line for line in done.stderr.decode().splitlines() if "dream-edge:" in line] == [
        "dream-edge: cannot write the output: No space left on device. Make room, or send it elsewhere."
    ]
    assert done.stderr.endswith(b"send it elsewhere.\n") or done.stderr.endswith(b"send it elsewhere.\r\n")


def test_error_of_a_process(tmp_path: Path) -> None:
    arguments = ["generate", str(tmp_path), "-p", "x"]
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("dream-edge: ")
    assert done.stderr.count("\n") == 1


@posix
def test_interrupt_stops_within_a_pass(random_artifact: Path) -> None:
    process = start(["generate", random_artifact, "-p", "x", *LONG])
    assert process.stderr
    assert process.stdout
    assert process.stderr.readline().startswith("step 1/400")
    process.send_signal(signal.SIGINT)
    interrupted = time.perf_counter()
    code = process.wait(timeout=30)
    assert time.perf_counter() - interrupted < 2
    *_, last = process.stderr.read().splitlines()
    assert (code, last, process.stdout.read()) == (130, "Stopped.", "")
    process.stdout.close()
    process.stderr.close()


@posix
def test_closed_pipe_is_quiet(random_artifact: Path) -> None:
    process = start(["info", random_artifact])
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    code = process.wait(timeout=60)
    assert (code, process.stderr.read()) == (1, "")
    process.stderr.close()


@posix
def test_terminal_is_drawn_in_place_and_left_clean(random_artifact: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    arguments = ["generate", str(random_artifact), "-p", "x", "-n", "40", "--steps", "40", "--visual", "--seed", "1"]
    process = start(arguments, stderr=follower)
    os.close(follower)
    drawn = b""
    while chunk := _read(leader):
        drawn += chunk
    os.close(leader)
    assert process.stdout
    text = process.stdout.read()
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert b"\x1b[?25l" in drawn
    erased, statistics = drawn.rsplit(b"\x1b[J\x1b[?25h", 1)
    assert erased.count(b"\x1b[?2026h") > 1
    assert statistics.decode().startswith("40 steps")
    assert "\x1b" not in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # Linux says so when the other side has gone
        return b""


def test_no_color_is_respected() -> None:
    program = (
        "from rich.text import Text; from rich.console import Console; "
        "from dream_edge.cli.terminal.painter import Painter; "
        "Painter(Console(stderr=True, force_terminal=True)).draw([Text('x', style='red')])"
    )
    environment = {**ENVIRONMENT, "NO_COLOR": "1", "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60, check=True
    )
    assert "x" in done.stderr
    assert "[31m" not in done.stderr


def test_command_line_without_typer_says_what_to_install() -> None:
    program = "import sys; sys.modules['typer'] = None; from dream_edge.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert 'pip install "dream-edge[cpu]"' in done.stderr
    assert done.stderr.count("\n") == 1

"""Runs the commands of the manual as they stand there.

`dream-edge` runs in this process, which saves a second or two for each of some hundred commands; `serve` in a process
of its own until the page ends. What uses the shell's own language goes to bash. Three kinds are read and not run:
installations, whose extras must exist; tests and linters, which are run anyway; and the programs of benchmarks/ and
tools/, which have tests of their own: their options must exist.
"""

from __future__ import annotations

import io
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import typer.main
from typer.testing import CliRunner

from dream_edge.cli.app import app

from .documents import ROOT, Block

DOCUMENTED_PORT = "8080"
READ_ONLY = ("pip", "python3", "source", "pytest", "ruff", "mypy", "mkdocs", "npm", "node", "optimum-cli")
"""Programs that are not run: environments, tests, and what other tests run with other languages' programs."""
_SHELL_LANGUAGE = re.compile(r"[;|<>()&]+")
_EXPANDED = re.compile(r"[$*~`]")


class Failed(AssertionError):
    """A documented command did not do what the page says."""

    def __init__(self, block: Block, command: str, why: str) -> None:
        super().__init__(f"{block}: {command}\n{why}")


class Shell:
    """One page's commands, run in one directory, and its Python blocks, which share their names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._server: subprocess.Popen[bytes] | None = None
        self._port = DOCUMENTED_PORT
        programs = directory / ".programs"
        programs.mkdir()
        for name, command in (("dream-edge", "-m dream_edge"), ("python", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n', "utf-8")
            (programs / name).chmod(0o755)
        self._environment = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }

    def run(self, block: Block) -> str:
        """What the block prints, standard output and error together."""
        if block.language == "python":
            return self._python(block)
        return "".join(self._command(block, each) for each in commands(block.text))

    def close(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(20)
            self._server = None

    def _python(self, block: Block) -> str:
        printed = io.StringIO()
        code = compile("\n" * block.line + block.text.replace(DOCUMENTED_PORT, self._port), f"<{block}>", "exec")
        try:
            with redirect_stdout(printed):
                exec(code, self._names)
        except Exception as error:
            if block.mark != "fails":
                raise Failed(block, "Python", traceback.format_exc()) from error
            return f"{type(error).__name__}: {error}\n"
        assert block.mark != "fails", f"{block}: no error was raised"
        return printed.getvalue()

    def _command(self, block: Block, command: str) -> str:
        parts = in_turn(command)
        if parts is None:
            return self._bash(block, command)
        return "".join(self._program(block, part) for part in parts)

    def _program(self, block: Block, arguments: list[str]) -> str:
        if arguments[:3] == ["python", "-m", "pip"]:
            arguments = arguments[2:]
        program = arguments[0]
        if program in READ_ONLY or is_own_script(arguments):
            problem = unfit(arguments)
            if problem:
                raise Failed(block, shlex.join(arguments), problem)
            return ""
        if program != "dream-edge":
            return self._bash(block, shlex.join(arguments))
        if arguments[1:2] == ["serve"] and block.mark != "fails":
            self._serve(block, arguments)
            return ""
        if arguments[1:2] == ["export"] and "--force" not in arguments and block.mark != "fails":
            self._make_room(arguments[3])
        result = CliRunner().invoke(app, arguments[1:], input="")
        self._judge(block, shlex.join(arguments), result.exit_code, result.output)
        return result.output

    def _make_room(self, out: str) -> None:
        """Stand-ins bear the names that the manual exports to."""
        place = Path(out)
        if place.is_symlink():
            place.unlink()
        elif place.is_dir():
            shutil.rmtree(place)

    def _bash(self, block: Block, command: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace(DOCUMENTED_PORT, self._port)],
            cwd=self._directory,
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        self._judge(block, command, done.returncode, done.stdout)
        return done.stdout

    def _judge(self, block: Block, command: str, code: int, output: str) -> None:
        if "Traceback" in output:
            raise Failed(block, command, output)
        if (code == 0) == (block.mark == "fails"):
            raise Failed(block, command, f"ended with {code}\n{output}")

    def _serve(self, block: Block, arguments: list[str]) -> None:
        """On a free port, which then takes the place of the documented one: others may use that."""
        self.close()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self._port = str(listener.getsockname()[1])
        log = self._directory / ".serve.log"
        if "--port" in arguments:
            at = arguments.index("--port")
            del arguments[at : at + 2]
        with log.open("wb") as stream:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "dream_edge", *arguments[1:], "--port", self._port],
                cwd=self._directory,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        for _ in range(600):
            if self._server.poll() is not None:
                break
            with suppress(URLError, OSError):
                try:
                    status = urlopen(f"http://127.0.0.1:{self._port}/health", timeout=5).status
                except HTTPError as error:
                    status = error.code
                if status in (200, 401):  # 401: it wants the key, which is the page's to tell
                    return
            time.sleep(0.1)
        raise Failed(block, shlex.join(arguments), log.read_text(errors="replace"))


def commands(text: str) -> Iterator[str]:
    """The commands of a block, each with the lines that it goes over, without comments."""
    pending = ""
    for line in text.splitlines():
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # a quotation goes on
            pending += "\n"
            continue
        if words:
            yield pending.strip()
        pending = ""
    assert not pending.strip(), f"this command does not end: {pending}"


def in_turn(command: str) -> list[list[str]] | None:
    """The arguments of programs joined by &&; None for what only a shell understands."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word == "&&":
            parts.append([])
        elif _SHELL_LANGUAGE.fullmatch(word):
            return None
        else:
            parts[-1].append(word)
    bare = re.sub(r"'[^']*'|\"[^\"$`]*\"", "", command.split(" #")[0])
    assigns = any("=" in part[0].split("/")[0] for part in parts)
    return None if assigns or _EXPANDED.search(bare) else parts


# --- what is read and not run ----------------------------------------------------------------------------------------


def unfit(arguments: list[str]) -> str:
    """What is wrong with a command that is not run; empty if nothing is, as far as it can be read."""
    program = arguments[0]
    if program == "pip":
        return _unfit_installation(arguments)
    if program == "pytest":
        missing = [each for each in arguments[1:] if "/" in each and not (ROOT / each.split("::")[0]).exists()]
        return f"there is no {missing[0]}" if missing else ""
    known: frozenset[str] | None = None
    if program == "dream-edge":
        verbs = _verbs()
        if len(arguments) > 1 and not arguments[1].startswith("-"):
            if arguments[1] not in verbs:
                return f"there is no verb {arguments[1]}"
            known = verbs[arguments[1]]
        else:
            known = frozenset({"-h", "--help", "--version"})
    elif is_own_script(arguments):
        if not (ROOT / arguments[1]).is_file():
            return f"there is no {arguments[1]}"
        known = _script_options(arguments[1])
    for each in arguments[1:]:
        if known is not None and re.match(r"--?[a-zA-Z]", each) and each.split("=")[0] not in known:
            return f"there is no option {each}"
    return ""


def is_own_script(arguments: list[str]) -> bool:
    return arguments[0] == "python" and len(arguments) > 1 and arguments[1].startswith(("benchmarks/", "tools/"))


def _unfit_installation(arguments: list[str]) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for before, each in pairwise(arguments):
        if before == "--group":
            if each not in project["dependency-groups"]:
                return f"there is no group {each}"
        elif found := re.fullmatch(r"(?:\.|dream-edge|.*\.whl)\[([\w,]+)\]", each):
            for extra in found[1].split(","):
                if extra not in project["project"]["optional-dependencies"]:
                    return f"there is no extra {extra}"
        elif each.endswith(".txt") and not (ROOT / each).is_file():
            return f"there is no {each}"
    return ""


@cache
def _verbs() -> dict[str, frozenset[str]]:
    """The options of each verb."""
    group: Any = typer.main.get_command(app)
    return {
        name: frozenset(
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        )
        | {"--help", "-h"}
        for name, command in group.commands.items()
    }


@cache
def _script_options(script: str) -> frozenset[str]:
    """The options that its own --help lists."""
    printed, arguments, path = io.StringIO(), sys.argv, [*sys.path]
    sys.argv, sys.path[:1] = [script, "--help"], [str((ROOT / script).parent), sys.path[0]]
    try:
        with redirect_stdout(printed), redirect_stderr(printed), suppress(SystemExit):
            runpy.run_path(str(ROOT / script), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = arguments, path
    return frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", printed.getvalue()))

"""The programs that are compared, each behind the same two questions: how long is a pass, how long is a text."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .figures import TEXT, UNCACHED_TEXT, Figures, Run
from .llama_cpp import LlamaCpp

_CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Text:
    """What is generated: one token a pass."""

    prompt: int
    new: int
    block: int
    steps: int
    """How many passes are run where all passes are the same; the rest is counted, not run."""


class Subject(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path:
        """The weights."""
        ...

    def passes(self, canvas: int, count: int) -> Run:
        """`count` full passes that project every row, after one that does not count."""
        ...

    def text(self, text: Text) -> Figures:
        """Seconds for a text, without loading."""
        ...


@dataclass(frozen=True)
class Ours:
    name: str
    path: Path
    threads: int
    cache: Path
    """Where int8 copies go."""
    as_int8: bool = False

    def passes(self, canvas: int, count: int) -> Run:
        return _run(self._child("--canvas", canvas, "--passes", count))

    def text(self, text: Text) -> Figures:
        asked = ("--prompt", text.prompt, "--new", text.new, "--block", text.block)
        uncached = self._child("--cache", "none", "--steps", text.steps + 1, *asked)  # the first step needs no pass
        cached = self._child("--cache", "dual", *asked)
        return {UNCACHED_TEXT: uncached["seconds"] / uncached["made"] * text.new, TEXT: cached["seconds"]}

    def prepare(self) -> None:
        """Load once, so that an int8 copy is there."""
        self._child()

    def _child(self, *arguments: object) -> Any:
        as_int8 = ["--as-int8"] if self.as_int8 else []
        return _child(self.path, "--threads", self.threads, *as_int8, *arguments, cache=self.cache)


@dataclass(frozen=True)
class PyTorch:
    name: str
    path: Path
    threads: int
    dtype: str

    def passes(self, canvas: int, count: int) -> Run:
        return _run(self._child(canvas, count))

    def text(self, text: Text) -> Figures:
        (seconds,) = self._child(text.prompt + text.new, min(2, text.steps))["passes"]
        return {TEXT: seconds * text.new}

    def _child(self, canvas: int, count: int) -> Any:
        asked = ("--dtype", self.dtype, "--canvas", canvas, "--passes", count)
        return _child(self.path, "--threads", self.threads, *asked)


@dataclass(frozen=True)
class Theirs:
    name: str
    path: Path
    threads: int
    program: LlamaCpp

    def passes(self, canvas: int, count: int) -> Run:
        return self.program.run(self.path, canvas, count + 1, self.threads)

    def text(self, text: Text) -> Figures:
        run = self.program.run(self.path, text.prompt + text.new, text.steps + 1, self.threads)
        return {TEXT: statistics.median(run.steps) * text.new}


def _run(found: Any) -> Run:
    return Run(load=found["load"], passes=found["passes"], memory=found["memory"])


def _child(*arguments: object, cache: Path | None = None) -> Any:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if cache:
        environment["XDG_CACHE_HOME"] = str(cache.resolve())
    command = [sys.executable, str(_CHILD), *map(str, arguments)]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({run.returncode})")
    return json.loads(run.stdout)

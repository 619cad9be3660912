"""The programs that are compared, each behind the same two questions: what full passes cost, what those of a text."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .figures import LOAD, MEMORY, STEP, Figures, Text, part_of, pass_over
from .llama_cpp import LlamaCpp

_CHILD = Path(__file__).with_name("child.py")
_AVX2 = Path(__file__).parents[2] / "tools" / "machines" / "avx2.py"
INSTRUCTIONS = ("native", "avx2")
"""What the processor offers, or AVX2 alone."""


class Subject(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path:
        """The weights."""
        ...

    def passes(self, canvases: Sequence[int], count: int) -> Figures:
        """Full passes that project every row: the median of `count`, after one that does not count."""
        ...

    def text(self, text: Text, parts: Sequence[int], count: int) -> Figures:
        """The passes of a text, or one of the equal steps that make it."""
        ...


@dataclass(frozen=True)
class Ours:
    name: str
    path: Path
    threads: int
    cache: Path
    """Where int8 copies go."""
    as_int8: bool = False
    avx2: Path | None = None
    """Where the ONNX Runtime lies that takes the processor for one of AVX2 alone; made there when it is not."""

    def passes(self, canvases: Sequence[int], count: int) -> Figures:
        return _figures(self._child("--canvas", *canvases, "--passes", count))

    def text(self, text: Text, parts: Sequence[int], count: int) -> Figures:
        asked = ("--text", text.canvas, "--rows", text.block, "--passes", count, "--parts", *parts)
        return _figures(self._child(*asked), text.canvas)

    def prepare(self) -> None:
        """Load once, so that an int8 copy is there."""
        if not self.cache.exists():
            self._child()

    def _child(self, *arguments: object) -> Any:
        as_int8 = ["--as-int8"] if self.as_int8 else []
        before = [sys.executable, _AVX2, self.avx2, "--"] if self.avx2 else []
        given = (self.path, "--threads", self.threads, *as_int8, *arguments)
        return _child(*given, before=before, environment={"XDG_CACHE_HOME": str(self.cache.resolve())})


@dataclass(frozen=True)
class PyTorch:
    name: str
    path: Path
    threads: int
    dtype: str
    avx2: bool = False

    def passes(self, canvases: Sequence[int], count: int) -> Figures:
        return _figures(self._child(canvases, count))

    def text(self, text: Text, parts: Sequence[int], count: int) -> Figures:  # it has no cache
        return {STEP: self._child([text.canvas], count)["passes"][str(text.canvas)]}

    def _child(self, canvases: Sequence[int], count: int) -> Any:
        asked = ("--dtype", self.dtype, "--passes", count, "--canvas", *canvases)
        narrow = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
        return _child(self.path, "--threads", self.threads, *asked, environment=narrow if self.avx2 else {})


@dataclass(frozen=True)
class Theirs:
    name: str
    path: Path
    threads: int
    program: LlamaCpp

    def passes(self, canvases: Sequence[int], count: int) -> Figures:
        runs = {canvas: self.program.run(self.path, canvas, count + 1, self.threads) for canvas in canvases}
        found = {pass_over(canvas): statistics.median(run.passes) for canvas, run in runs.items()}
        loads, memory = [run.load for run in runs.values()], max(run.memory for run in runs.values())
        return found | {LOAD: statistics.median(loads), MEMORY: memory}

    def text(self, text: Text, parts: Sequence[int], count: int) -> Figures:  # it has no cache
        return {STEP: statistics.median(self.program.run(self.path, text.canvas, count + 1, self.threads).steps)}


def _figures(found: Any, text: int = 0) -> Figures:
    """Of what a child printed."""
    named = {pass_over(int(canvas)): seconds for canvas, seconds in found["passes"].items()}
    named |= {part_of(int(positions), text): seconds for positions, seconds in found.get("parts", {}).items()}
    return named | {LOAD: found["load"], MEMORY: found["memory"]}


def _child(*arguments: object, before: Sequence[object] = (), environment: dict[str, str] | None = None) -> Any:
    command = [*map(str, before), sys.executable, str(_CHILD), *map(str, arguments)]
    inherited = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})}
    run = subprocess.run(command, env=inherited, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({run.returncode})")
    return json.loads(run.stdout)

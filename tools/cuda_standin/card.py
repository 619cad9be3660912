"""Run a program on the stand-in, and inside of it look at the card."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .prepare import DEFAULT, ROOT

_TILE = re.compile(r"GemmShapeILi(\d+)ELi(\d+)E")


def missing(standin: Path = DEFAULT) -> str | None:
    """What has to be done first; None where it is done."""
    if (standin / "venv" / "lib").exists() and list(standin.glob("venv/lib/python*/site-packages/onnxruntime/capi")):
        return None
    return "run python tools/cuda_standin/prepare.py first: it needs g++ and the wheel of onnxruntime-gpu"


def run_on_standin(
    *command: str | Path, environment: Mapping[str, str], libraries: str = "lib", sm: int = 89
) -> subprocess.CompletedProcess[str]:
    """Run a Python program of this checkout with `command`'s arguments, on a card of compute capability `sm`."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "runtime", ROOT / "export", ROOT / "tests")))
    variables = {"LD_LIBRARY_PATH": str(DEFAULT / libraries), "STANDIN_SM": str(sm), "PYTHONPATH": path, **environment}
    python = DEFAULT / "venv" / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("STANDIN_", "ORT_"))}
    return subprocess.run(
        [python, *command], env={**clean, **variables}, capture_output=True, text=True, check=False, timeout=600
    )


class Launch(NamedTuple):
    """One line of the log: a kernel (its name as the compiler mangled it) or a product of cuBLAS."""

    name: str
    blocks: int


class Card:
    """The card of this process. Sizes are bytes, in pages of 2 MiB where they are above 1 MiB."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcudart.so.13")
        for name in ("standin_held", "standin_peak"):
            getattr(self._library, name).restype = ctypes.c_size_t
        self._library.standin_launches.restype = ctypes.c_long

    @property
    def held(self) -> int:
        return int(self._library.standin_held())

    @property
    def peak(self) -> int:
        return int(self._library.standin_peak())

    @property
    def launches(self) -> int:
        return int(self._library.standin_launches())

    def reset_peak(self) -> None:
        self._library.standin_reset_peak()

    def refuse(self, count: int) -> None:
        """Let the next `count` allocations fail."""
        self._library.standin_refuse(ctypes.c_long(count))

    def resize(self, size: int) -> None:
        """Make the card's memory `size`, from the next allocation on."""
        self._library.standin_resize(ctypes.c_size_t(size))

    @contextmanager
    def logging(self) -> Iterator[list[list[str]]]:
        """What is logged in the block, in fields; filled when it ends. Needs STANDIN_LOG."""
        path, lines = Path(os.environ["STANDIN_LOG"]), list[list[str]]()
        self._library.standin_flush()
        before = path.stat().st_size if path.exists() else 0
        yield lines
        self._library.standin_flush()
        with path.open(encoding="utf-8") as log:
            log.seek(before)
            lines += [line.split() for line in log]


def launches_of(lines: list[list[str]]) -> list[Launch]:
    """The kernels and products among the lines of a log."""
    return [Launch(fields[1], int(fields[2])) for fields in lines if fields[0] == "kernel"] + [
        Launch(fields[1], 1) for fields in lines if fields[0] == "blas"
    ]


def trial_work(lines: list[list[str]]) -> int:
    """Outputs that kernels for packed weights computed: the tiles they launched, each as large as its name says."""
    tiles = [(each.blocks, _TILE.search(each.name)) for each in launches_of(lines) if "GemmFpAIntB" in each.name]
    return sum(blocks * int(tile[1]) * int(tile[2]) for blocks, tile in tiles if tile)

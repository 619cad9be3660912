"""llama.cpp's diffusion program: fetched, built, given our weights, run, and read.

What it does a step (examples/diffusion/diffusion.cpp): one batch of the whole canvas, every row projected, no cache;
then it samples. Its fastest settings, used here: a canvas in one piece (-b, -ub and -c its length),
--diffusion-algorithm 0, which samples only what it reveals, --diffusion-eps, whose schedule allows any number of steps,
and -lm none: its weights are memory of its own, as ours are, which the system cannot drop between two passes.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .figures import Run

SDIST = "llama-cpp-python==0.3.36"
"""Holds llama.cpp's own sources; the package index is where they are to be had without git."""

SETTINGS = "-b -ub -c CANVAS -lm none --diffusion-algorithm 0 --diffusion-eps 0.001"
QUANTIZATIONS = ("Q4_K_M", "Q8_0")
Instructions = Literal["native", "avx2"]
"""All that the processor offers, or AVX2 and nothing above it."""
_REQUIRED: dict[Instructions, list[str]] = {
    "native": ["CMAKE_BUILD_TYPE=Release", "GGML_NATIVE=ON"],
    "avx2": [
        "CMAKE_BUILD_TYPE=Release",
        *(f"GGML_{name}=ON" for name in ("SSE42", "AVX", "AVX2", "FMA", "F16C", "BMI2")),
        *(f"GGML_{name}=OFF" for name in ("NATIVE", "AVX512", "AVX512_VNNI", "AVX_VNNI")),
    ],
}
_PROGRAMS = ("llama-diffusion-cli", "llama-quantize")
_OFF = ("LLAMA_CURL", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_SERVER", "LLAMA_BUILD_UI", "BUILD_SHARED_LIBS")
_PROMPT = "Hello"  # what is not prompt is mask, and costs the same

_STAMP = re.compile(r"(\d+)\.(\d\d)\.(\d{3})\.(\d{3}) I (?=\s*(?:diffusion step|total time))")
_TOTALS = re.compile(r"total time: ([\d.]+)ms, time per step: ([\d.]+)ms, sampling time per step: ([\d.]+)ms")


class LlamaCppFailed(RuntimeError):
    def __init__(self, what: str, said: str) -> None:
        super().__init__(f"{what}: {said.strip()[-600:] or 'it said nothing'}")


@dataclass(frozen=True)
class LlamaCpp:
    sources: Path
    build: Path

    @classmethod
    def obtain(
        cls, work: Path, sources: Path | None, build: Path | None, instructions: Instructions = "native"
    ) -> LlamaCpp:
        """The program, downloaded and built under `work` unless it is there already."""
        sources = _sources(work, sources)
        found = cls(sources, build or work / f"llama.cpp-{instructions}")
        if not (found.build / "CMakeCache.txt").exists():
            flags = [*_REQUIRED[instructions], *(f"{name}=OFF" for name in _OFF)]
            _call([_cmake(), "-S", sources, "-B", found.build, *(f"-D{flag}" for flag in flags)])
        check_build((found.build / "CMakeCache.txt").read_text(errors="replace"), instructions)
        if not all(found._program(name).exists() for name in _PROGRAMS):
            targets = [each for name in _PROGRAMS for each in ("--target", name)]
            _call([_cmake(), "--build", found.build, "--config", "Release", "-j", str(os.cpu_count()), *targets])
        return found

    def _program(self, name: str) -> Path:
        return self.build / "bin" / (name + (".exe" if sys.platform == "win32" else ""))

    def write_ggufs(self, checkpoint: Path, directory: Path) -> dict[str, Path]:
        """`checkpoint` in every quantization, by its name; what is there already stays.

        All is made from Q8_0, which spares the disk a copy in bf16: the speed is the same, what is said would not be.
        """
        paths = {name: directory / f"{name.lower()}.gguf" for name in QUANTIZATIONS}
        missing = {name: path for name, path in paths.items() if not path.exists()}
        if not missing:
            return paths
        view, eight = directory / "view", paths["Q8_0"]
        _view(checkpoint, view)
        if eight in missing.values():
            partial = eight.with_suffix(".partial")
            converter: list[str | Path] = [
                sys.executable,
                self.sources / "convert_hf_to_gguf.py",
                view,
                "--outtype",
                "q8_0",
            ]
            searched = os.pathsep.join([str(self.sources / "gguf-py"), os.environ.get("PYTHONPATH", "")])
            _call([*converter, "--outfile", partial], {"PYTHONPATH": searched})
            partial.rename(eight)
        for name, path in missing.items():
            if path != eight:
                self.quantize(eight, path, name, "--allow-requantize")
        shutil.rmtree(view)
        return paths

    def quantize(self, whole: Path, path: Path, quantization: str, *options: str) -> None:
        """Write the GGUF `whole` in another quantization; without an importance matrix, as by default."""
        partial = path.with_suffix(".partial")
        _call([self._program("llama-quantize"), *options, whole, partial, quantization])
        partial.rename(path)

    def run(self, gguf: Path, canvas: int, steps: int, threads: int) -> Run:
        """Denoise a canvas in `steps` steps; `steps` - 1 of them count, the first warms up."""
        size = str(canvas)
        command: list[str | Path] = [
            self._program("llama-diffusion-cli"),
            "-m",
            gguf,
            "-p",
            _PROMPT,
            "-c",
            size,
            "-b",
            size,
            "-ub",
            size,
        ]
        command += ["-t", str(threads), "--diffusion-steps", str(steps), "--diffusion-eps", "0.001"]
        command += ["--diffusion-algorithm", "0", "--seed", "1", "-lm", "none"]
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        log = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise LlamaCppFailed("llama-diffusion-cli failed", log)
        return read_log(log, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def read_log(log: str, peak_memory: int) -> Run:
    """What a run's log says: the time before the first step, and the steps after the first without their sampling.

    The log stamps every line with minutes, seconds, milliseconds and microseconds since the start.
    """
    marks = [
        60 * int(minutes) + int(seconds) + int(milli) / 1e3 + int(micro) / 1e6
        for minutes, seconds, milli, micro in _STAMP.findall(log)
    ]
    totals = _TOTALS.search(log)
    if totals is None or len(marks) < 3:
        raise LlamaCppFailed("llama-diffusion-cli's log has no times of two steps", log)
    total, _, sampling = (float(each) / 1e3 for each in totals.groups())
    whole = marks[-1] - marks[0]
    if abs(whole - total) > 0.05 * total + 0.1:
        raise LlamaCppFailed(f"llama-diffusion-cli says {total:.2f} s where its stamps say {whole:.2f} s", log)
    steps = [after - before for before, after in itertools.pairwise(marks[1:])]
    return Run(load=marks[0], passes=[max(0.0, step - sampling) for step in steps], memory=peak_memory, steps=steps)


def check_build(cache: str, instructions: Instructions = "native") -> None:
    """Refuse a build that is slower than it could be, or for another kind of processor."""
    lines = [re.sub(":[A-Z]+=", "=", line) for line in cache.splitlines()]
    for wanted in _REQUIRED[instructions]:
        if wanted not in lines:
            raise LlamaCppFailed(f"this build of llama.cpp is not a fast one ({instructions})", f"it lacks {wanted}")


def _sources(work: Path, given: Path | None) -> Path:
    unpacked = given or work / SDIST.replace("==", "-").replace("-", "_", 2)
    if not unpacked.exists():
        work.mkdir(parents=True, exist_ok=True)
        _call([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=:all:", "-d", work, SDIST])
        with tarfile.open(next(work.glob("llama_cpp_python-*.tar.gz"))) as archive:
            archive.extractall(work, filter="data")
    for sources in (unpacked, unpacked / "vendor" / "llama.cpp"):
        if (sources / "convert_hf_to_gguf.py").exists():
            return sources
    raise LlamaCppFailed(f"{unpacked} holds no llama.cpp", "convert_hf_to_gguf.py is not there")


def _view(checkpoint: Path, view: Path) -> None:
    """The checkpoint as the converter wants it: with a tokenizer class that is no remote code."""
    shutil.rmtree(view, ignore_errors=True)
    view.mkdir(parents=True)
    for file in checkpoint.iterdir():
        if file.name != "tokenizer_config.json":
            (view / file.name).symlink_to(file.resolve())
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("auto_map", None)
    settings["tokenizer_class"] = "Qwen2Tokenizer"
    (view / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _cmake() -> str:
    if found := shutil.which("cmake"):
        return found
    raise LlamaCppFailed("building llama.cpp needs CMake and a C++ compiler", "pip install cmake ninja")


def _call(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
    print("+", *command, file=sys.stderr, flush=True)
    run = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if run.returncode:
        raise LlamaCppFailed(f"{Path(command[0]).name} failed ({run.returncode})", run.stdout.decode(errors="replace"))

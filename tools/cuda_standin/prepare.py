"""Build the stand-in for CUDA's libraries, and an environment with ONNX Runtime for GPUs that runs on it.

python tools/cuda_standin/prepare.py [build/cuda-standin] [--find-links DIR]

needs g++ and, for the wheel of onnxruntime-gpu (250 MB), PyPI or a directory that holds it. With both libraries the
released ONNX Runtime loads a model, places its nodes, chooses kernels, takes memory and launches as it would on a card:
allocations are counted in the driver's pages and launches are written down, but kernels do nothing and results are
zeros. So nothing here says what a GPU computes, or how fast. `pytest -m cuda_standin` runs on it.

Environment of a program that uses it: LD_LIBRARY_PATH=DIR/lib, and STANDIN_SM (compute capability, 89), STANDIN_GB
(memory, 12), STANDIN_LOG (a file for allocations, copies and launches).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent
DEFAULT = ROOT / "build" / "cuda-standin"
WHEEL = "onnxruntime-gpu==1.31.1"

LIBRARIES = {
    "libcudart.so.13": ("card.cpp", "memory.cpp", "launches.cpp", "streams.cpp"),
    "libcublas.so.13": ("cublas.cpp",),
    "libcublasLt.so.13": ("cublaslt.cpp",),
    "libcurand.so.10": (),  # ONNX Runtime links it and calls nothing of it
    "libcuda.so.1": ("driver.cpp",),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--find-links", help="a directory with wheels")
    given = parser.parse_args()
    if shutil.which("g++") is None:
        print("the stand-in for CUDA needs g++", file=sys.stderr)
        return 1
    build(given.out / "lib")
    (given.out / "driver").mkdir(exist_ok=True)  # a machine with a driver and no libraries
    shutil.copy2(given.out / "lib" / "libcuda.so.1", given.out / "driver")
    try:
        install(given.out / "venv", given.find_links)
    except subprocess.CalledProcessError:
        print(f"{WHEEL} cannot be had for this Python and this machine", file=sys.stderr)
        return 1
    print(given.out)
    return 0


def build(out: Path) -> None:
    """The libraries, by the names and the versions of symbols that ONNX Runtime asks for."""
    out.mkdir(parents=True, exist_ok=True)
    for name, sources in LIBRARIES.items():
        versions = out / "versions"
        versions.write_text(f"{name} {{ global: *; }};")
        command = ["g++", "-std=c++17", "-Wall", "-Wno-return-type-c-linkage", "-O1", "-fPIC", "-shared", "-x", "c++"]
        command += [str(SOURCES / source) for source in sources] or ["/dev/null"]
        command += ["-x", "none", "-o", str(out / name), f"-Wl,-soname,{name}"]
        if name != "libcuda.so.1":
            command.append(f"-Wl,--version-script={versions}")
        if name.startswith("libcublas"):
            command.append(str(out / "libcudart.so.13"))  # it keeps the log
        subprocess.run(command, check=True)
        versions.unlink()


def install(environment: Path, find_links: str | None) -> None:
    """ONNX Runtime for GPUs without NVIDIA's libraries, and what the runtime needs besides."""
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    command += ["--find-links", find_links] if find_links else []
    subprocess.run([*command, WHEEL, "numpy", "tokenizers"], check=True)


if __name__ == "__main__":
    sys.exit(main())

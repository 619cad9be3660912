"""Go through the product on ARM64 Linux, emulated, and print a table.

python tools/machines/arm64.py build/arm64             # six schemes on two processors
python tools/machines/arm64.py build/arm64 --tests     # also tests of the runtime; tests/runtime: all, for hours

Needs Linux on x86-64 and mmdebstrap (apt-get install mmdebstrap). QEMU and an arm64 Python come from Debian trixie and
are only unpacked: nothing is registered with the kernel, since WORK/python-CPU starts Python in QEMU. bookworm's QEMU
7.2 crashes. The product is installed as by a user, from its wheel and aarch64 wheels of PyPI.

What is emulated says nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROCESSORS = ("max", "cortex-a72")  # with and without instructions for products of integers
TESTS = ("tests/runtime/inference/test_self_check.py", "tests/runtime/inference/test_onnx_network.py")
MIRROR = "http://deb.debian.org/debian"
PYTHON = "3.13"  # trixie's
TORCH = "torch==2.9.1"  # the tests' oracle; later wheels for aarch64 need CUDA's libraries

TESTS_NEED = """pytest hypothesis onnx transformers safetensors sympy networkx jinja2 fsspec filelock setuptools numpy
    onnxruntime typer rich"""

STARTER = """#!/bin/sh
exec nice -n 19 "{work}/host/usr/bin/qemu-aarch64" -cpu {cpu} -L "{work}/arm64" -E PYTHONHOME="{work}/arm64/usr" \\
  -0 "$0" "{work}/arm64/usr/bin/python{python}" "$@"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Go through the product on ARM64 Linux, emulated.")
    parser.add_argument("work", type=Path, help="a folder for what is downloaded and found; may be used again")
    parser.add_argument("--cpu", nargs="+", default=PROCESSORS, metavar="NAME", help="as qemu-aarch64 -cpu names them")
    parser.add_argument("--tests", nargs="*", metavar="PATH", help=f"run tests too [{' '.join(TESTS)}]")
    parser.add_argument("--bench", action="store_true", help="run `dream-edge bench` too, which takes minutes")
    given = parser.parse_args()
    work: Path = given.work.resolve()
    unpack(work / "host", "qemu-user")
    unpack(work / "arm64", "python3,libstdc++6", "--arch=arm64")
    for cpu in given.cpu:
        starter = work / f"python-{cpu}"
        starter.write_text(STARTER.format(work=work, cpu=cpu, python=PYTHON))
        starter.chmod(0o755)
    install_product(work)
    run(sys.executable, ROOT / "tools/machines/prepare.py", work / "prepared")
    codes = []
    for cpu in given.cpu:
        smoke: list[str | Path] = [ROOT / "tools/machines/smoke.py", work / "prepared", work / f"results-{cpu}"]
        codes.append(emulate(work, cpu, [work / "site"], *smoke, *([] if given.bench else ["--skip", "bench"])))
    print("\n".join(table(work, given.cpu)))
    if given.tests is not None:
        install_for_tests(work)
        paths = [work / "tests", ROOT, *(ROOT / part for part in ("runtime", "export", "tests"))]
        for cpu in given.cpu:
            codes.append(emulate(work, cpu, paths, "-m", "pytest", "-q", "-p", "no:xdist", *(given.tests or TESTS)))
    sys.exit(any(codes))


def unpack(target: Path, packages: str, *options: str) -> None:
    """Debian packages with all that they depend on, unpacked into `target` unless it is there."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    run("mmdebstrap", "--quiet", "--variant=extract", *options, f"--include={packages}", "trixie", target, MIRROR)
    if not (target / "lib").exists():
        (target / "lib").symlink_to("usr/lib")


def install_product(work: Path) -> None:
    """The product's wheel, made here, and wheels for aarch64 of what its light install and the server need."""
    wheels = work / "wheels"
    for old in wheels.glob("dream_edge-*.whl"):
        old.unlink()
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ROOT)
    (wheel,) = wheels.glob("dream_edge-*.whl")
    shutil.rmtree(work / "site", ignore_errors=True)  # pip leaves the names of other versions there
    install(work / "site", f"dream-edge[cpu,serve] @ {wheel.as_uri()}")


def install_for_tests(work: Path) -> None:
    if not (work / "tests").exists():
        # alone, since it asks for CUDA's libraries where pip runs on x86-64
        install(work / "tests", TORCH, "--no-deps", pinned=False)
        install(work / "tests", *TESTS_NEED.split())


def install(target: Path, *what: str, pinned: bool = True) -> None:
    """Wheels for aarch64, in the versions that constraints.txt pins."""
    platforms = ("--platform=manylinux_2_28_aarch64", "--platform=manylinux_2_17_aarch64")
    options = ("--quiet", "--target", target, "--only-binary=:all:", f"--python-version={PYTHON}")
    constraints = ("-c", ROOT / "constraints.txt") if pinned else ()
    run(sys.executable, "-m", "pip", "install", *options, *platforms, *constraints, *what)


def emulate(work: Path, cpu: str, paths: list[Path], *arguments: str | Path) -> int:
    print(f"\n--- {cpu}", flush=True)
    environment = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    command = [work / f"python-{cpu}", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode


def run(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def table(work: Path, processors: list[str]) -> Iterator[str]:
    """In Markdown, a row for each processor and scheme."""
    yield "\n| processor | int8 probe | scheme | steps | largest difference of a logit | bound | greedy texts |"
    yield "|---|---|---|---|---|---|---|"
    ours = json.loads((work / "prepared/results/results.json").read_text("utf-8"))
    for cpu in processors:
        found = json.loads((work / f"results-{cpu}/results.json").read_text("utf-8"))
        probe = "saturates" if found["saturates"] else "8 bits"
        for scheme, texts in found["texts"].items():
            steps = [step for step in found["steps"] if step["step"].split()[0] == scheme]
            apart, bound = steps[-1]["outcome"].partition(" apart, bound ")[::2]
            same = sum(texts[name] == ours["texts"][scheme][name] for name in texts)
            passed = sum(step["passed"] for step in steps)
            counts = f"{passed} of {len(steps)}", apart.split()[-1], bound.partition(";")[0], f"{same} of {len(texts)}"
            yield f"| {cpu} | {probe} | {scheme} | {' | '.join(counts)} |"


if __name__ == "__main__":
    main()

"""Carry what a GPU needs to a machine without a network, in pieces: wheels are split here and joined there.

python tools/gpu_bundle.py pack BUNDLE [--python 3.12] [--wheels DIR] [REQUIREMENT …]
python tools/gpu_bundle.py run BUNDLE [ARGUMENT OF benchmarks/gpu.py …]

`pack` downloads the wheels of the extras gpu and export (or takes those in DIR) and writes pieces of at most 60 MB
beside a manifest of digests. `run`, in a checkout on the other machine, checks and joins them, installs them in an
environment of its own in BUNDLE and starts benchmarks/gpu.py there. It needs nothing but Python.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PIECE = 60_000_000
MANIFEST = "bundle.json"
BASE = ["numpy", "tokenizers", "typer", "rich", "filelock", "safetensors"]
GPU = ["onnxruntime-gpu==1.31.1", "nvidia-cublas~=13.0", "nvidia-cuda-runtime~=13.0", "nvidia-curand~=10.4"]
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


class BadBundle(Exception):
    """Pieces are missing or damaged."""


def download(requirements: list[str], python: str, out: Path) -> None:
    """The wheels of `requirements` and of what they need, for Linux on x86-64 and a version of Python."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(out)]
    command += ["--python-version", python, "-c", str(ROOT / "constraints.txt")]
    command += [part for platform in PLATFORMS for part in ("--platform", platform)]
    subprocess.run([*command, *requirements], check=True)


def pack(wheels: Path, bundle: Path, piece: int = PIECE) -> dict[str, Any]:
    """Split all wheels in `wheels` into files of at most `piece` bytes in `bundle`, and say what they are."""
    bundle.mkdir(parents=True, exist_ok=True)
    manifest: dict[str, Any] = {}
    for wheel in sorted(wheels.glob("*.whl")):
        parts, whole = list[dict[str, str]](), hashlib.sha256()
        with wheel.open("rb") as file:
            while data := file.read(piece):
                name = f"{wheel.name}.{len(parts):03d}"
                (bundle / name).write_bytes(data)
                whole.update(data)
                parts.append({"name": name, "sha256": hashlib.sha256(data).hexdigest()})
        manifest[wheel.name] = {"sha256": whole.hexdigest(), "pieces": parts}
    (bundle / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest


def join(bundle: Path, out: Path) -> list[Path]:
    """The wheels, put together in `out`. Raises BadBundle with all pieces that are missing or damaged."""
    manifest, bad, joined = json.loads((bundle / MANIFEST).read_text(encoding="utf-8")), [], []
    out.mkdir(parents=True, exist_ok=True)
    for name, wheel in manifest.items():
        whole = hashlib.sha256()
        with (out / name).open("wb") as file:
            for piece in wheel["pieces"]:
                path = bundle / piece["name"]
                data = path.read_bytes() if path.exists() else b""
                if hashlib.sha256(data).hexdigest() != piece["sha256"]:
                    bad.append(piece["name"])
                whole.update(data)
                file.write(data)
        if whole.hexdigest() != wheel["sha256"] and not bad:
            bad.append(name)
        joined.append(out / name)
    if bad:
        raise BadBundle(f"missing or damaged: {', '.join(bad)}")
    return joined


def install(wheels: list[Path], environment: Path) -> Path:
    """Install `wheels` and nothing else in a new environment; returns its Python."""
    venv.create(environment, with_pip=True, clear=True)
    python = environment / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, *map(str, wheels)], check=True)
    return python


def run(bundle: Path, arguments: list[str]) -> int:
    """Join, install, and start the benchmark in this checkout."""
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=bundle) as directory:
        python = install(join(bundle, Path(directory)), bundle / "environment")
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "runtime", "export"))
    command = [str(python), str(ROOT / "benchmarks" / "gpu.py"), *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack")
    packing.add_argument("bundle", type=Path)
    packing.add_argument("--python", default="3.12", help="of the other machine")
    packing.add_argument("--wheels", type=Path, help="take these instead of downloading")
    packing.add_argument("requirements", nargs="*", help="beside those of the runtime, such as torch or dashscope")
    running = verbs.add_parser("run")
    running.add_argument("bundle", type=Path)
    running.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.verb == "run":
        return run(given.bundle, given.arguments or ["--geometry", "dream-7b", "--layers", "28"])
    with tempfile.TemporaryDirectory() as directory:
        if given.wheels is None:
            download([*BASE, *GPU, *given.requirements], given.python, Path(directory))
        manifest = pack(given.wheels or Path(directory), given.bundle)
    print(f"{len(manifest)} wheels in {sum(len(each['pieces']) for each in manifest.values())} pieces")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Who is compared in what, in which order: the program behind benchmarks/peers.py."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dream_edge_runtime.host import default_threads, describe_machine, free_memory
from tools.synthetic.family import geometry as find_geometry

from .figures import FILE, LOAD, MEMORY, Figures, Samples, extrapolated, pass_over, with_expected
from .llama_cpp import QUANTIZATIONS, SETTINGS, LlamaCpp, LlamaCppFailed
from .subjects import Ours, PyTorch, Subject, Text, Theirs
from .table import columns, table

ROOT = Path(__file__).parents[2]
PUBLISHED = 1.4
"""Tokens per pass of Dream on GSM8K at threshold 0.9: Wu et al., "Fast-dLLM" (arXiv 2505.22618)."""
SHORTEST_CANVAS = 32
SCHEMES = ("int8", "int4")


def prepare(layers: int, llama: LlamaCpp, threads: int, given: argparse.Namespace) -> list[Subject]:
    """Weights of so many layers in every format; what is there already stays."""
    directory = given.work / f"{given.geometry}-{layers}"
    checkpoint = directory / "checkpoint"
    if not checkpoint.exists():
        _call("tools/synthesize.py", "--geometry", given.geometry, "--layers", layers, checkpoint)
    for scheme in SCHEMES:
        if not (directory / scheme).exists():
            _call("-m", "dream_edge", "export", checkpoint, directory / scheme, "--scheme", scheme)
    ggufs = llama.write_ggufs(checkpoint, directory)
    as_int8 = Ours("int4 --as-int8", directory / "int4", threads, directory / "cache", as_int8=True)
    as_int8.prepare()
    subjects: list[Subject] = [Ours(each, directory / each, threads, directory / "cache") for each in SCHEMES]
    subjects += [as_int8, *(Theirs(f"llama.cpp {name}", ggufs[name], threads, llama) for name in QUANTIZATIONS)]
    if given.torch and _fits(checkpoint):
        subjects += [PyTorch("PyTorch fp32", checkpoint, threads, "float32")]
        subjects += [PyTorch("PyTorch bf16", checkpoint, threads, "bfloat16")]
    return subjects


def measure(subjects: Sequence[Subject], given: argparse.Namespace) -> dict[str, Figures]:
    """Rounds in which everyone takes turns, a process each, so that a busy minute hits all."""
    samples = {subject.name: Samples() for subject in subjects}
    for number in range(given.rounds):
        for canvas in given.tokens:
            for subject in subjects:
                _say(f"round {number + 1} of {given.rounds}: {canvas} tokens, {subject.name}")
                run, found = subject.passes(canvas, given.passes), samples[subject.name]
                found.add(pass_over(canvas), *run.passes)
                found.add(LOAD, run.load)
                found.add(MEMORY, run.memory)
    text = Text(given.prompt, given.new, given.block, given.steps)
    for subject in subjects:
        found = samples[subject.name]
        if given.text:
            _say(f"a text of {text.new} tokens, {subject.name}")
            for name, seconds in subject.text(text).items():
                found.add(name, seconds)
        found.add(FILE, _stored(subject.path))
    return {
        name: with_expected(each.settled(), text.new, text.block, given.tokens_per_pass)
        for name, each in samples.items()
    }


def _call(*arguments: object) -> None:
    command = [sys.executable, *map(str, arguments)]
    _say(" ".join(command))
    if code := subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode:
        raise SystemExit(f"{' '.join(command)} failed ({code})")


def _fits(checkpoint: Path) -> bool:
    """Whether the network fits into memory in fp32."""
    needed, free = 2.2 * _stored(checkpoint), free_memory()
    if free is not None and needed > free:
        _say(f"PyTorch is left out: fp32 weights take {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free")
        return False
    return True


def _stored(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _own_layers(geometry: str) -> int:
    return int(find_geometry(geometry).config["num_hidden_layers"])


def _arguments(about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", default="dream-7b")
    parser.add_argument("--layers", type=int, nargs="+", default=[4], help="one count, or two to draw a line through")
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256, 512], help="of the full passes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=2, help="that count, in each process")
    parser.add_argument("--threads", type=int, help="of everyone (default: one per core this process may use)")
    parser.add_argument("--prompt", type=int, default=100, help="tokens before the text")
    parser.add_argument("--new", type=int, default=256, help="tokens of the text")
    parser.add_argument("--block", type=int, default=32, help="of our cache")
    parser.add_argument("--steps", type=int, default=4, help="passes run of a text whose passes are all the same")
    parser.add_argument(
        "--tokens-per-pass",
        type=float,
        nargs="+",
        default=[1.0, PUBLISHED],
        help="paces that a text is computed for (default: 1, and 1.4, published for Dream on GSM8K at threshold 0.9)",
    )
    parser.add_argument("--no-text", dest="text", action="store_false", help="passes only")
    parser.add_argument("--no-torch", dest="torch", action="store_false")
    parser.add_argument("--llama-cpp", type=Path, metavar="DIR", help="its unpacked sources, instead of a download")
    parser.add_argument("--build", type=Path, metavar="DIR", help="where it is built, or was")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "peers", metavar="DIR", help="where all goes")
    parser.add_argument("--clean", action="store_true", help="delete the weights once they are measured")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if len(given.layers) > 2 or min(given.layers) < 1:
        parser.error("--layers takes one count or two")
    if min(given.tokens_per_pass) < 1:
        parser.error("--tokens-per-pass: every pass reveals at least one")
    if min(*given.tokens, given.rounds, given.passes, given.prompt, given.new, given.block, given.steps) < 1:
        parser.error("all sizes and counts must be at least 1")
    if min(*given.tokens, given.prompt + given.new) < SHORTEST_CANVAS:
        parser.error(f"llama.cpp needs a canvas of {SHORTEST_CANVAS} tokens: its chat template takes over twenty")
    return given


def main(about: str) -> None:
    given = _arguments(about)
    threads = given.threads or default_threads() or 1
    given.work.mkdir(parents=True, exist_ok=True)
    measured: dict[int, dict[str, Figures]] = {}
    try:
        llama = LlamaCpp.obtain(given.work, given.llama_cpp, given.build)
        for layers in sorted(set(given.layers)):
            measured[layers] = measure(prepare(layers, llama, threads, given), given)
            if given.clean:
                shutil.rmtree(given.work / f"{given.geometry}-{layers}")
    except LlamaCppFailed as error:
        sys.exit(f"error: {error}")
    own = _own_layers(given.geometry)
    whole: dict[str, Figures] = {}
    if len(measured) == 2 and own not in measured:
        few, many = measured.values()
        counts = sorted(measured)
        whole = {name: extrapolated(dict(zip(counts, (few[name], many[name]), strict=True)), own) for name in few}
    conditions = f"{given.geometry}, {threads} threads each, {describe_machine()}; llama.cpp: {SETTINGS}"
    if given.json:
        print(
            json.dumps({"conditions": conditions, "measured": measured, "extrapolated": {own: whole} if whole else {}})
        )
        return
    shown = columns(given.tokens, given.tokens_per_pass)
    print(
        f"{conditions}\nA text: {given.new} tokens after {given.prompt}, one a pass unless the column says otherwise."
    )
    for layers, figures in measured.items():
        print(f"\n{table(f'{layers} of {own} layers, measured', figures, shown)}")
    if whole:
        print(f"\n{table(f'{own} layers, extrapolated', whole, shown)}")

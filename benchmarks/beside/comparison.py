"""Who is compared in what, in which order: the program behind benchmarks/peers.py."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from dream_edge_runtime.host import default_threads, describe_machine, free_memory

from .figures import FILE, Text, with_text
from .llama_cpp import QUANTIZATIONS, SETTINGS, Instructions, LlamaCpp, LlamaCppFailed
from .record import Question, Record
from .subjects import Ours, PyTorch, Subject, Theirs
from .table import columns, table

ROOT = Path(__file__).parents[2]
SHORTEST_CANVAS = 32
SCHEMES = ("int8", "int4")
SIZES: dict[str, tuple[int, dict[str, int]]] = {
    "7b": (28, {}),
    "0.5b": (24, {"hidden": 896, "intermediate": 4864, "heads": 14, "kv-heads": 2}),
}
"""Dream 7B, and Dream with the sizes of Qwen2.5-0.5B: its layers, and how they differ."""
PUBLISHED = 2.0
"""Tokens that are no end of the text, for each pass of Dream-Instruct at threshold 0.9 in blocks of 32: Chen et al.,
"dParallel", table 2."""


def prepare(
    size: str, layers: int, instructions: Instructions, threads: int, given: argparse.Namespace
) -> list[Subject]:
    """Weights of so many layers in every format; what is there already stays."""
    directory = given.work / f"{size}-{layers}"
    checkpoint, avx2 = directory / "checkpoint", given.work / "avx2" if instructions == "avx2" else None
    formats = {scheme: directory / scheme for scheme in SCHEMES}
    formats |= {name: directory / f"{name.lower()}.gguf" for name in QUANTIZATIONS}
    if not checkpoint.exists() and (given.torch or not all(path.exists() for path in formats.values())):
        sizes = [part for name, value in SIZES[size][1].items() for part in (f"--{name}", value)]
        _call("tools/synthesize.py", "--geometry", "dream-7b", "--layers", layers, *sizes, checkpoint)
    for scheme in SCHEMES:
        if not formats[scheme].exists():
            _call("-m", "dream_edge", "export", checkpoint, formats[scheme], "--scheme", scheme)
    build = given.build / instructions if given.build else None
    llama = LlamaCpp.obtain(given.work, given.llama_cpp, build, instructions)
    ggufs = llama.write_ggufs(checkpoint, directory)
    ours = [Ours(each, formats[each], threads, directory / "cache", avx2=avx2) for each in SCHEMES]
    theirs = [Theirs(f"llama.cpp {name}", ggufs[name], threads, llama) for name in QUANTIZATIONS]
    as_int8 = Ours("int4 --as-int8", formats["int4"], threads, directory / "cache", as_int8=True, avx2=avx2)
    subjects: list[Subject] = [ours[0], theirs[1], ours[1], theirs[0], as_int8]
    if given.torch and _fits(checkpoint):
        subjects.append(PyTorch("PyTorch bf16", checkpoint, threads, "bfloat16", avx2=avx2 is not None))
    subjects = [each for each in subjects if each.name in given.only] if given.only else subjects
    if as_int8 in subjects:
        as_int8.prepare()
    return subjects


def measure(subjects: Sequence[Subject], conditions: str, given: argparse.Namespace, record: Record) -> bool:
    """Rounds in which everyone takes turns, a process each, so that a busy minute hits all; whether that is done.

    Nothing begins after the time given.
    """
    passes = f"{given.passes} over {given.tokens}"
    text = f"{given.passes} of a text, {given.parts} of {given.text.canvas}"
    for number in range(1, given.rounds + 1):
        for asked in (passes, text):
            for subject in subjects:
                question = Question(conditions, subject.name, asked, number)
                if question in record:
                    continue
                if given.until is not None and monotonic() > given.until:
                    return False
                _say(f"round {number} of {given.rounds}: {asked}, {subject.name}")
                if asked == passes:
                    figures = subject.passes(given.tokens, given.passes) | {FILE: float(_stored(subject.path))}
                else:
                    figures = subject.text(given.text, given.parts, given.passes)
                record.add(question, figures)
    return True


def _call(*arguments: object) -> None:
    command = [sys.executable, *map(str, arguments)]
    _say(" ".join(command))
    if code := subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode:
        raise SystemExit(f"{' '.join(command)} failed ({code})")


def _fits(checkpoint: Path) -> bool:
    """Whether the network fits into memory in bf16."""
    needed, free = 1.2 * _stored(checkpoint), free_memory()
    if free is not None and needed > free:
        _say(f"PyTorch is left out: bf16 takes {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free")
        return False
    return True


def _stored(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def read_mix(shares: Sequence[str], canvas: int) -> dict[int, float]:
    """ "full=0.1", "33=0.9" → the share of each count of positions.

    Raises:
        ValueError: what is no such share, a count outside of the canvas, or shares that do not make one.
    """
    mix: dict[int, float] = {}
    for each in shares:
        positions, _, share = each.partition("=")
        mix[canvas if positions == "full" else int(positions)] = float(share)
    if not all(0 < positions <= canvas for positions in mix):
        raise ValueError(f"positions lie between 1 and {canvas}")
    if min(mix.values()) < 0 or abs(sum(mix.values()) - 1) > 0.005:
        raise ValueError("shares make one together")
    return mix


def _arguments(about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--layers", type=int, help="of each, instead of all")
    parser.add_argument("--instructions", nargs="+", choices=["native", "avx2"], default=["native", "avx2"])
    parser.add_argument("--only", nargs="+", metavar="PROGRAM", help='names as the table has them, "int8"')
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256], help="of the full passes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=1, help="that count, in each process")
    parser.add_argument("--threads", type=int, help="of everyone (default: one per core this process may use)")
    parser.add_argument("--prompt", type=int, default=100, help="tokens before the text")
    parser.add_argument("--new", type=int, default=256, help="tokens of the text")
    parser.add_argument("--block", type=int, default=32, help="tokens that a pass over all of a text projects")
    parser.add_argument(
        "--parts", type=int, nargs="+", default=[16, 33, 65], help="tokens that its other passes compute"
    )
    parser.add_argument("--tokens-per-pass", type=float, default=PUBLISHED, help="of ours, in the text")
    parser.add_argument(
        "--mix",
        nargs="+",
        default=["full=0.5", "33=0.5"],
        metavar="POSITIONS=SHARE",
        help="how many positions the passes of ours compute (benchmarks/decoding.py counts them)",
    )
    parser.add_argument("--steps", type=int, default=256, help="of a text in llama.cpp and PyTorch")
    parser.add_argument("--no-torch", dest="torch", action="store_false")
    parser.add_argument("--llama-cpp", type=Path, metavar="DIR", help="its unpacked sources, instead of a download")
    parser.add_argument("--build", type=Path, metavar="DIR", help="where it is built, or was, in native/ and avx2/")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "peers", metavar="DIR", help="where all goes")
    parser.add_argument("--seconds", type=float, help="begin nothing after so many; the next run goes on from there")
    given = parser.parse_args()
    counts = [
        *given.tokens,
        *given.parts,
        given.rounds,
        given.passes,
        given.prompt,
        given.new,
        given.block,
        given.steps,
    ]
    if min(*counts, 1 if given.layers is None else given.layers) < 1 or given.tokens_per_pass <= 0:
        parser.error("all sizes and counts must be at least 1")
    if min(*given.tokens, given.prompt + given.new) < SHORTEST_CANVAS:
        parser.error(f"llama.cpp needs a canvas of {SHORTEST_CANVAS} tokens: its chat template takes over twenty")
    try:
        mix = read_mix(given.mix, given.prompt + given.new)
    except ValueError as error:
        parser.error(f"--mix: {error}")
    given.text = Text(given.prompt, given.new, given.block, given.tokens_per_pass, mix)
    return given


def main(about: str) -> None:
    given = _arguments(about)
    threads = given.threads or default_threads() or 1
    given.work.mkdir(parents=True, exist_ok=True)
    record = Record(given.work / "measured.jsonl")
    for size in given.sizes:
        for instructions in given.instructions:
            layers = given.layers or SIZES[size][0]
            shape = f"{size}, {layers} of {SIZES[size][0]} layers"
            try:
                subjects = prepare(size, layers, instructions, threads, given)
                given.until = monotonic() + given.seconds if given.seconds is not None else None
                machine = describe_machine().rpartition(", load")[0]  # another at every call
                conditions = f"{shape}, {threads} threads each, {machine}, {instructions} instructions"
                if not measure(subjects, conditions, given, record):
                    sys.exit("The time is over. The same command goes on from here.")
            except LlamaCppFailed as error:
                sys.exit(f"error: {error}")
            print(_told(conditions, shape, record, given), flush=True)


def _told(conditions: str, shape: str, record: Record, given: Any) -> str:
    text: Text = given.text
    figures = {name: with_text(each, text, given.steps) for name, each in record.settle(conditions).items()}
    return (
        f"{conditions}; llama.cpp: {SETTINGS}\n"
        f"A text: {text.new} tokens after {text.prompt}. Ours: {text.passes:.0f} passes over "
        f"{text.positions_per_pass:.0f} positions each on average; theirs: {given.steps} steps over {text.canvas}.\n\n"
        f"{table(shape, figures, columns(given.tokens, given.parts, text.canvas))}\n"
    )

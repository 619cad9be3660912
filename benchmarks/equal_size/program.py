"""Everything in one run: the program behind benchmarks/quality_peers.py."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from dream_edge.models import resolve_checkpoint
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.host import describe_machine

from ..beside.llama_cpp import LlamaCpp, LlamaCppFailed
from . import smollm2
from .evaluation import Evaluation, mean_of, paired
from .gguf_weights import write_gguf
from .plot import plot
from .real_weights import Loss, losses
from .subjects import Measured, Subject, bitsandbytes, gguf, ours, with_eight_bit_rows
from .table import Point, point, real_table, size_table, verdict_table, verdicts

ROOT = Path(__file__).parents[2]
QUANTIZATIONS = ("Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
SCHEMES = {
    "int8": ("--scheme", "int8"),
    "int4-128": ("--scheme", "int4"),
    "int4-32": ("--scheme", "int4", "--block-size", "32"),
    "mixed": ("--scheme", "mixed"),
    "nf4": ("--scheme", "nf4"),
    "int8-calibrated": ("--scheme", "int8", "--calibrate"),
    "int4-128-calibrated": ("--scheme", "int4", "--calibrate"),
    "int4-64-calibrated": ("--scheme", "int4", "--block-size", "64", "--calibrate"),
    "int4-32-calibrated": ("--scheme", "int4", "--block-size", "32", "--calibrate"),
    "mixed-5.7-calibrated": ("--scheme", "mixed", "--bits", "5.7", "--calibrate"),
    "mixed-6.6-calibrated": ("--scheme", "mixed", "--bits", "6.6", "--calibrate"),
}
"""Name → what `dream-edge export` is given."""


def main(about: str) -> None:
    given = _arguments(about)
    torch.set_num_threads(given.threads)
    given.work.mkdir(parents=True, exist_ok=True)
    try:
        llama = LlamaCpp.obtain(given.work, given.llama_cpp, given.build)
        measured = _whole_model(given, llama)
        panels = [
            (
                f"{given.checkpoint}: weights alone",
                "mean KL, nats",
                [point(each, lambda one: one.weights) for each in measured],
            ),
            (
                f"{given.checkpoint}: as computed",
                "mean KL, nats",
                [point(each, lambda one: one.computed) for each in measured],
            ),
        ]
        if given.real:
            found = _real_weights(given, llama)
            points = [Point(each.name, each.family, each.bits, each.weights) for each in found]
            panels.append(("SmolLM2-135M: single products", "relative error of outputs", points))
    except LlamaCppFailed as error:
        sys.exit(f"error: {error}")
    if given.plot:
        plot(given.plot, panels)


def _whole_model(given: argparse.Namespace, llama: LlamaCpp) -> list[Measured]:
    checkpoint = Checkpoint.open(resolve_checkpoint(given.checkpoint))
    exported = _exports(given, checkpoint.path)
    some = Artifact.open(next(iter(exported.values())))
    evaluation = Evaluation.of(checkpoint, load_reference(checkpoint), some, given.sequences, given.seed)
    measured = []
    for subject in _subjects(given, llama, checkpoint, exported):
        _say(f"{subject.family} {subject.name}")
        bits = subject.stored.bits(checkpoint.config)
        alone, computed = evaluation.losses(subject.weights()), evaluation.losses(subject.computed())
        measured.append(Measured(subject.name, subject.family, bits, alone, computed))
    print(f"{given.checkpoint}, {given.sequences} masked sequences, seed {given.seed}, {describe_machine()}\n")
    print(size_table(measured), end="\n\n")
    print(verdict_table(verdicts(measured, lambda each: each.weights), verdicts(measured, lambda each: each.computed)))
    if "int8" in exported:
        rows = evaluation.losses(with_eight_bit_rows(exported["int8"], checkpoint))
        here = next(each for each in measured if each.name == "int8").computed
        change = paired(rows, here)
        print(
            "\nint8 with all 8 bits of its activations (processors with VNNI): "
            f"KL {mean_of([each.kl for each in rows]).mean:.6f}, {change.mean:+.6f} ± {change.error:.6f} from here."
        )
    return measured


def _exports(given: argparse.Namespace, checkpoint: Path) -> dict[str, Path]:
    """Our artifacts; what is there already stays."""
    found = {}
    for name, options in SCHEMES.items():
        found[name] = given.work / name
        if not found[name].exists():
            _call("-m", "dream_edge", "export", checkpoint, found[name], *options)
    return found


def _subjects(
    given: argparse.Namespace, llama: LlamaCpp, checkpoint: Checkpoint, exported: dict[str, Path]
) -> Iterator[Subject]:
    for name, path in exported.items():
        yield ours(name, path, checkpoint, given.threads)
    whole = given.work / "whole.gguf"
    for name in QUANTIZATIONS:
        path = given.work / f"{name.lower()}.gguf"
        if not path.exists():
            if not whole.exists():
                write_gguf(whole, {each: checkpoint.tensor(each) for each in checkpoint.names}, checkpoint.config)
            llama.quantize(whole, path, name)
        yield gguf(name, path, checkpoint)
    whole.unlink(missing_ok=True)
    yield from bitsandbytes(checkpoint)


def _real_weights(given: argparse.Namespace, llama: LlamaCpp) -> list[Loss]:
    path = smollm2.obtain(given.work / "smollm2")
    config, products = smollm2.products(path, given.every)
    _say(f"{len(products)} matrices of {path.name}")
    found = losses(config, products, given.work, lambda whole, to, name: llama.quantize(whole, to, name, "--pure"))
    print(f"\n{path.name}, matrices of each {given.every}th layer, rounded to nearest by us\n\n{real_table(found)}")
    return found


def _call(*arguments: object) -> None:
    command = [sys.executable, *map(str, arguments)]
    if code := subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode:
        raise SystemExit(f"{' '.join(command)} failed ({code})")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments(about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=6, metavar="N", help="layers of SmolLM2 that are looked at")
    parser.add_argument("--no-real", dest="real", action="store_false", help="without SmolLM2")
    parser.add_argument("--plot", type=Path, metavar="FILE", help=".png or .svg")
    parser.add_argument("--llama-cpp", type=Path, metavar="DIR", help="its unpacked sources, instead of a download")
    parser.add_argument("--build", type=Path, metavar="DIR", help="where it is built, or was")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "quality_peers", metavar="DIR")
    return parser.parse_args()

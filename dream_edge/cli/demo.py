"""`dream-edge demo`."""

from __future__ import annotations

import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dream_edge_runtime.units import size

from .terminal.io import hide_log, is_terminal, printable
from .terminal.progress import show_progress
from .terminal.table import align

if TYPE_CHECKING:
    from dream_edge.quality import Measures
    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.format.recipe import Scheme
    from dream_edge_runtime.model import DreamModel

    from .demo_cases import DemoCase

_PACE = 0.04  # seconds for which a terminal shows each step, since the tiny model takes a few milliseconds
_COMPARED = 20  # masked texts for each scheme: enough to tell them apart


@dataclass
class Contender:
    """The tiny model in one scheme, and how it did."""

    artifact: Artifact
    model: DreamModel
    right: int = 0
    step_seconds: float = 0.0
    loss: Measures | None = None

    @property
    def scheme(self) -> str:
        return self.artifact.manifest.recipe.scheme


def demo(seed: Annotated[int, typer.Option(metavar="N", min=0, help="Draws other cases.")] = 0) -> None:
    """See it all on the tiny model, within a minute.

    Exports it, denoises a Sudoku, a Countdown, two sentences and a conversation before your eyes, checks each answer,
    and measures what quantization cost.
    """
    from .demo_cases import draw_cases

    with tempfile.TemporaryDirectory(prefix="dream-edge-") as directory:
        contenders = _prepare(Path(directory))
        cases = draw_cases(seed)
        for case in cases:
            _ask(case, contenders)
        _time(cases[0], contenders)
        _measure(contenders)
        _report(contenders, len(cases))


_SCHEMES: tuple[Scheme, ...] = ("fp32", "int8", "int4")


def _prepare(directory: Path) -> list[Contender]:
    """The tiny model in every scheme; without the libraries that export, in the one that comes with the package."""
    import dream_edge
    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.errors import MissingExtra

    try:
        with hide_log("dream_edge_export"), show_progress() as shown:
            artifacts = [
                dream_edge.export("tiny", directory / f"tiny-{scheme}", scheme=scheme, progress=shown)
                for scheme in _SCHEMES
            ]
        typer.echo("The tiny model, exported: " + ", ".join(_describe(artifact) for artifact in artifacts) + ".")
    except MissingExtra as error:
        artifacts = [Artifact.open(dream_edge.resolve_artifact("tiny"))]
        typer.echo(f"{error} Until then: {_describe(artifacts[0])}, which comes with the package.")
    return [Contender(artifact, dream_edge.load(artifact.path)) for artifact in artifacts]


def _describe(artifact: Artifact) -> str:
    return f"{artifact.manifest.recipe.scheme} of {size(artifact.size)}"


def _ask(case: DemoCase, contenders: list[Contender]) -> None:
    """Ask every contender; those that are quantized are shown."""
    from .terminal.run import watch

    typer.echo(f"\n── {case.title} {'─' * (66 - len(case.title))}\n{case.question.rstrip()}\n")
    for contender in contenders:
        watched = contender.scheme != "fp32"
        generation = watch(
            lambda cancel, model=contender.model: case.begin(model, cancel),  # type: ignore[misc]
            contender.model.tokenizer,
            visual=watched,
            pace=_PACE if watched else 0.0,
        )
        right = case.solves(generation.text)
        contender.right += right
        if watched:
            answer = printable(case.opening + generation.text).rstrip().replace("\n", "\n        ")
            typer.echo(f"{contender.scheme:<7} {answer}   {_verdict(right)}")


def _verdict(right: bool) -> str:
    colored = is_terminal(sys.stdout)
    text, color = ("✓ right", typer.colors.GREEN) if right else ("✗ wrong", typer.colors.RED)
    return typer.style(text, fg=color) if colored else text


def _time(case: DemoCase, contenders: list[Contender]) -> None:
    """How long a step takes while nothing is drawn."""
    for contender in contenders:
        generation = case.begin(contender.model, threading.Event()).result()
        contender.step_seconds = generation.seconds / max(generation.passes, 1)


def _measure(contenders: list[Contender]) -> None:
    """What each scheme lost, where the full-precision network can be run."""
    from dream_edge.models import open_checkpoint
    from dream_edge.quality import compare_artifact, draw_evaluation, temporary_base
    from dream_edge_runtime.errors import MissingExtra

    try:
        checkpoint = open_checkpoint("tiny", "Comparing with the full-precision network")
        evaluation = draw_evaluation(checkpoint, sequences=_COMPARED)
        with temporary_base(checkpoint, evaluation) as base, show_progress() as shown:
            for contender in contenders:
                contender.loss = compare_artifact(contender.artifact, base, progress=shown).overall
    except MissingExtra as error:
        typer.echo(f"\n{error}")


def _report(contenders: list[Contender], asked: int) -> None:
    rows = [("scheme", "size", "bits/weight", "ms/step", "KL (nats)", "same-top", "right")]
    for contender in contenders:
        manifest, loss = contender.artifact.manifest, contender.loss
        rows.append(
            (
                contender.scheme,
                size(contender.artifact.size),
                f"{manifest.recipe.targets['cpu'].bits_per_weight(manifest.config):.2f}",
                f"{1000 * contender.step_seconds:.1f}",
                f"{loss.kl_mean:.5f}" if loss else "–",
                f"{loss.same_top:.1%}" if loss else "–",
                f"{contender.right} of {asked}",
            )
        )
    typer.echo(f"\n── What quantization cost {'─' * 44}")
    typer.echo("\n".join(align(rows)))
    typer.echo(
        f"\nKL, same-top: against the checkpoint, on {_COMPARED} masked texts it was not trained on.\n"
        "ms/step: the Sudoku again, unwatched; in so small a network it is mostly overhead.\n"
        "right: the cases above; wrong answers of fp32 are the network's own.\n"
        "Next: dream-edge chat tiny, or with a checkpoint: dream-edge export CHECKPOINT OUT --scheme int4"
    )

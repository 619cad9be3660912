"""`dream-edge batch`."""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as given
from .pull import at_hand
from .terminal.io import note
from .terminal.progress import progress

if TYPE_CHECKING:
    from dream_edge.batches import BatchProgress, Engine

CLUSTER = "With --engine ray"


class EngineName(StrEnum):
    LOCAL = "local"
    RAY = "ray"


def batch(
    artifact: given.ArtifactArgument,
    requests: Annotated[
        Path, typer.Argument(metavar="IN.jsonl", help="One request a line, as OpenAI's batches have it.")
    ],
    results: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="Where the answers go, a line each.")],
    engine: Annotated[
        EngineName,
        typer.Option(help="This process, or the workers of a Ray cluster.", rich_help_panel=given.RUNNING),
    ] = EngineName.LOCAL,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Models at work at once.  [default: one for each machine, or GPU]",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help='Cluster that this machine belongs to, or "auto".  [default: one of this machine, for the batch]',
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    threads: given.Threads = None,
    device: given.DeviceChoice = given.Device.AUTO,
    scheme: given.SchemeChoice = None,
    as_int8: given.AsInt8 = False,
    no_memory_check: given.NoMemoryCheck = False,
) -> None:
    """Answer a file of requests.

    Interrupted at any moment, it goes on after the last whole answer when the same command is run again, with either
    engine. A request that cannot be met has its error in its line.
    """
    from dream_edge.hub import Kind
    from dream_edge.models import is_bundled
    from dream_edge_runtime.errors import MissingExtra

    if engine is EngineName.LOCAL and (workers or address):
        raise typer.BadParameter("is for --engine ray", param_hint="--workers" if workers else "--address")
    try:
        from dream_edge.batches import LocalEngine, RayEngine, Source, count_requests
        from dream_edge.batches import batch as answer
    except ImportError:
        raise MissingExtra("Answering batches", "serve") from None

    total = count_requests(requests)
    chosen: Engine
    if engine is EngineName.RAY:
        model = at_hand(artifact, Kind.ARTIFACT)
        chosen = RayEngine(
            source=Source(
                name=Path(model).absolute() if Path(model).exists() and not is_bundled(model) else artifact,
                device="cuda" if device is given.Device.CUDA else "cpu",
                scheme=scheme and scheme.value,
                as_int8=as_int8,
                memory_check=not no_memory_check,
            ),
            served=given.served_name(model, scheme),
            workers=workers,
            threads=threads,
            address=address,
        )
    else:
        chosen = LocalEngine(
            lambda: given.load_model(
                artifact,
                device=device,
                threads=threads,
                scheme=scheme,
                as_int8=as_int8,
                no_memory_check=no_memory_check,
            ),
            given.served_name(artifact, scheme),
        )

    def shown(found: BatchProgress) -> None:
        if found.done > found.before:  # so that what is left is not reckoned by the start
            advance(found.done)

    with (
        progress("Answering", max(total, 1), lambda done: f"{done:.0f}") as advance,
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),  # where Ray prints that a worker was lost
    ):
        done = answer(chosen, requests, results, progress=shown)
    went_on = f", {done.before} of them before" if done.before else ""
    failed = f"; {done.refused} could not be met, their lines say why" if done.refused else ""
    note(f"{results}: {done.done} answers{went_on}{failed}.")

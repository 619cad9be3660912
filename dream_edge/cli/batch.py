"""`dream-edge batch`."""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dream_edge_runtime.units import counted

from . import options
from .terminal.io import note
from .terminal.progress import show_progress

CLUSTER = "With --engine ray"


class EngineName(StrEnum):
    LOCAL = "local"
    RAY = "ray"


@options.expand_options()
def batch(
    artifact: options.ArtifactArgument,
    requests: Annotated[
        Path, typer.Argument(metavar="IN.jsonl", help="One request a line, as OpenAI's batches have it.")
    ],
    results: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="Where the answers go, a line each.")],
    engine: Annotated[
        EngineName,
        typer.Option(help="This process, or the workers of a Ray cluster.", rich_help_panel=options.RUNNING),
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
    *,
    loading: options.Loading,
) -> None:
    """Answer a file of requests.

    Interrupted at any moment, it resumes after the last whole answer when the same command is run again, with either
    engine. A request that cannot be met has its error in its line.
    """
    import dream_edge

    with (
        show_progress() as progress,
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),  # where Ray prints that a worker was lost
    ):
        done = dream_edge.batch(
            artifact,
            requests,
            results,
            engine=engine.value,
            workers=workers,
            address=address,
            **loading.keywords(),
            progress=progress,
        )
    went_on = f", {done.before} of them before" if done.before else ""
    failed = f"; {done.refused} could not be met, their lines say why" if done.refused else ""
    note(f"{results}: {counted(done.done, 'answer')}{went_on}{failed}.")

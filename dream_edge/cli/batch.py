"""`dream-edge batch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as given
from .progress import progress
from .terminal import note


def batch(
    artifact: given.ArtifactArgument,
    requests: Annotated[
        Path, typer.Argument(metavar="IN.jsonl", help="One request a line, as OpenAI's batches have it.")
    ],
    results: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="Where the answers go, a line each.")],
    threads: given.Threads = None,
    device: given.DeviceChoice = given.Device.AUTO,
    scheme: given.SchemeChoice = None,
    expand: given.Expand = False,
    prepacked: given.Prepacked = False,
    no_memory_check: given.NoMemoryCheck = False,
) -> None:
    """Answer a file of requests.

    Interrupted at any moment, it goes on after the last whole answer when the same command is run again. A request that
    cannot be met has its error in its line.
    """
    from dream_edge_runtime.errors import MissingExtra

    try:
        from dream_edge.batch import count_requests, run_batch
    except ImportError:
        raise MissingExtra("Answering batches", "serve") from None

    total = count_requests(requests)
    with progress("Answering", max(total, 1), lambda done: f"{done:.0f}") as advance:
        done = run_batch(
            lambda: given.load_model(
                artifact,
                device=device,
                threads=threads,
                scheme=scheme,
                expand=expand,
                prepacked=prepacked,
                no_memory_check=no_memory_check,
            ),
            given.served_name(artifact, scheme),
            requests,
            results,
            progress=lambda found: advance(found.done),
        )
    went_on = f", {done.before} of them before" if done.before else ""
    failed = f"; {done.refused} could not be met, their lines say why" if done.refused else ""
    note(f"{results}: {done.done} answers{went_on}{failed}.")

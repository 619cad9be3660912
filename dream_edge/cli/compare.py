"""`dream-edge compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as given
from .compare_table import table
from .compare_tasks import check_learnt, with_task_scores
from .export import open_checkpoint
from .progress import progress
from .pull import at_hand
from .terminal import print_json


def compare(
    artifacts: Annotated[list[str], typer.Argument(metavar="ARTIFACT...", help='Directories, owner/name, or "tiny".')],
    reference: Annotated[
        str, typer.Option(metavar="CHECKPOINT", help='The checkpoint they were exported from, or "tiny".')
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help=".txt (texts between blank lines) or .jsonl (text or messages).  [default: built in]"
        ),
    ] = None,
    sequences: Annotated[int, typer.Option(metavar="N", min=1, help="Masked texts to measure.")] = 128,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the masks.")] = 0,
    tasks: Annotated[
        bool, typer.Option("--tasks", help="Score the tasks too; for the bundled model and its like, which know them.")
    ] = False,
    cases: Annotated[int, typer.Option(metavar="N", min=1, help="Of each task.")] = 100,
    threads: given.Threads = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure what quantization cost.

    Artifacts are held against their checkpoint in full precision, on masked texts. KL divergence in nats; same-top is
    the share of positions with the same best token; ΔELBO in nats a token (below 0: the texts became less likely). ±
    is one standard error.
    """
    from dream_edge import resolve_artifact
    from dream_edge.hub import Kind
    from dream_edge.quality import compare as measure
    from dream_edge.quality import read_texts
    from dream_edge_runtime.artifact import Artifact

    opened = [Artifact.open(resolve_artifact(at_hand(name, Kind.ARTIFACT))) for name in artifacts]
    if tasks:
        check_learnt(opened)
    checkpoint = open_checkpoint(reference, "Comparing with the full-precision network")
    texts = None if data is None else read_texts(data)
    comparisons = []
    for artifact in opened:
        with progress(f"Comparing {artifact.path.name}", sequences, lambda done: f"{done:.0f}") as advance:
            comparisons.append(
                measure(
                    artifact,
                    checkpoint,
                    data=texts,
                    sequences=sequences,
                    seed=seed,
                    threads=threads,
                    progress=lambda done, _, advance=advance: advance(done),  # type: ignore[misc]
                )
            )
    if tasks:
        comparisons = with_task_scores(comparisons, opened, checkpoint, cases=cases, threads=threads)
    if json:
        found = [comparison.to_dict() for comparison in comparisons]
        print_json(found[0] if len(found) == 1 else {"comparisons": found})
    else:
        typer.echo("\n\n".join(table(comparison) for comparison in comparisons))

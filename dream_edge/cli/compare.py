"""`dream-edge compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal.io import print_json
from .terminal.progress import show_progress
from .terminal.table import align

if TYPE_CHECKING:
    from dream_edge import Comparison

TRAJECTORY = "Along the reference's own decoding"


def compare(
    artifacts: Annotated[list[str], typer.Argument(metavar="ARTIFACT...", help='Directories, owner/name, or "tiny".')],
    reference: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help='The checkpoint they were exported from, or "tiny".')
    ] = None,
    base: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its predictions, from --save-base: no checkpoint is needed.")
    ] = None,
    save_base: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep its predictions, and resume there when interrupted.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help=".txt (texts between blank lines) or .jsonl (text or messages); more than once.  [default: built in]",
        ),
    ] = None,
    sequences: options.Sequences = None,
    longest: options.Longest = None,
    bins: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Intervals of mask ratios.  [default: 5]")
    ] = None,
    seed: options.MaskSeed = None,
    tasks: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Have all solve puzzles too: sudoku, countdown, or sudoku,countdown."),
    ] = None,
    cases: Annotated[int, typer.Option(metavar="N", min=1, help="Puzzles of each kind.")] = 100,
    shots: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Solved examples before each puzzle.  [default: 8; 0 for tiny]"),
    ] = None,
    noise_floor: Annotated[
        bool | None,
        typer.Option(
            "--noise-floor/--no-noise-floor",
            help="The reference in bf16, beside it: as long again as its predictions.  [default: with a new base]",
            show_default=False,
        ),
    ] = None,
    trajectory: Annotated[
        bool | None,
        typer.Option(
            "--trajectory/--no-trajectory",
            help="What flips along the reference's own decoding.  [default: if it is small, or kept in the base]",
            show_default=False,
            rich_help_panel=TRAJECTORY,
        ),
    ] = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(
            "--algorithm",
            "--alg",
            metavar="NAME",
            help="As for generate; more than once.  [default: the checkpoint's]",
            rich_help_panel=TRAJECTORY,
        ),
    ] = None,
    steps: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=1, help="More than once.  [default: one a token]", rich_help_panel=TRAJECTORY),
    ] = None,
    texts: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Texts to decode.  [default: 32]", rich_help_panel=TRAJECTORY),
    ] = None,
    new_tokens: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Tokens of each at most.  [default: 32]", rich_help_panel=TRAJECTORY),
    ] = None,
    report: options.Report = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="For the report: what `dream-edge sensitivity --out` wrote."),
    ] = None,
    update_card: Annotated[
        bool, typer.Option("--update-card", help="Write a summary into each artifact's README.md.")
    ] = False,
    threads: options.Threads = None,
    json: options.PrintJson = False,
) -> None:
    """Measure what quantization cost.

    Artifacts are held against their checkpoint in full precision, on masked texts; it is evaluated layer by layer, so
    that it need not fit into memory, and what it says can be kept in a file. KL divergence in nats; same-top is
    the share of positions with the same best token; ΔELBO in nats a token (below 0: the texts became less likely). ±
    is one standard error.
    """
    import dream_edge

    with show_progress() as progress:
        found = dream_edge.compare(
            artifacts,
            reference=reference,
            base=base,
            save_base=save_base,
            data=data or None,
            sequences=sequences,
            longest=longest,
            bins=bins,
            seed=seed,
            tasks=[] if tasks is None else tasks.split(","),
            cases=cases,
            shots=shots,
            noise_floor=noise_floor,
            trajectory=trajectory,
            algorithms=algorithm or (),
            steps=steps or (),
            texts=texts,
            new_tokens=new_tokens,
            report=report,
            sensitivity=sensitivity,
            update_card=update_card,
            threads=threads,
            progress=progress,
        )
    if json:
        documents = [comparison.to_dict() for comparison in found]
        print_json(documents[0] if len(found) == 1 else {"comparisons": documents})
    else:
        typer.echo("\n\n".join(describe(comparison) for comparison in found))


def describe(comparison: Comparison) -> str:
    """The figures of an artifact by mask ratio, then the block that `llama-perplexity` made known."""
    from dream_edge.quality.report import tables

    title = f"{comparison.artifact} ({comparison.scheme}), {comparison.basis}"
    parts = [tables.by_mask_ratio(comparison), tables.statistics(comparison)]
    if comparison.trajectories:
        parts += [tables.trajectories(comparison), tables.flips_by_part(comparison)]
    if comparison.tasks:
        parts.append(tables.tasks(comparison.tasks))
    return "\n\n".join([title, *("\n".join(align(table.lines)) for table in parts)])

"""`dream-edge sweep`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dream_edge_runtime.units import size

from . import options
from .terminal.io import print_json
from .terminal.progress import show_progress
from .terminal.table import align

if TYPE_CHECKING:
    from dream_edge import Sweep

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def sweep(
    checkpoint: options.CheckpointArgument,
    schemes: Annotated[
        str,
        typer.Option(metavar="A,B", help="Schemes to try; int4-32 is int4 in groups of 32, and so on."),
    ] = "int8,int4,mixed,nf4",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For artifacts and predictions.  [default: CHECKPOINT's name, -sweep]"),
    ] = None,
    report: options.Report = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Recommend one for this much, as 8GB.  [default: what is free now]"),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Texts, as for compare; more than once.  [default: built in]"),
    ] = None,
    sequences: options.Sequences = None,
    longest: options.Longest = None,
    seed: options.MaskSeed = None,
    trajectory: Annotated[
        bool | None,
        typer.Option(
            "--trajectory/--no-trajectory",
            help="What flips along the reference's own decoding.  [default: if it is small]",
            show_default=False,
        ),
    ] = None,
    threads: options.Threads = None,
    attention: options.Attention = None,
    shift: options.Shift = None,
    mask_token: options.MaskToken = None,
    force: Annotated[bool, typer.Option("--force", help="Replace artifacts in DIR that were made otherwise.")] = False,
    json: options.PrintJson = False,
) -> None:
    """Export several schemes, compare them, and recommend one.

    Everything is kept in a directory: the artifacts, and what the full-precision network predicts. Run again, the same
    command resumes where it stopped and leaves alone what is whole.
    """
    import dream_edge

    with show_progress() as progress:
        found = dream_edge.sweep(
            checkpoint,
            schemes=schemes.split(","),
            out=out,
            memory=None if memory is None else parse_size(memory),
            data=data or None,
            sequences=sequences,
            longest=longest,
            seed=seed,
            trajectory=trajectory,
            report=report,
            threads=threads,
            attention=attention,
            shift=shift,
            mask_token=mask_token,
            force=force,
            progress=progress,
        )
    if json:
        print_json(found.to_dict())
    else:
        typer.echo(describe(found))


def describe(found: Sweep) -> str:
    """By size, with those marked that no other is both smaller and better than; the advice last."""
    from dream_edge.quality.report.pictures import frontier

    edge = frontier([(entry.bits, entry.comparison.overall.kl_mean) for entry in found.entries])
    rows: list[tuple[str, ...]] = [("scheme", "size", "bits", "KL mean", "same-top", "memory", "")]
    for entry in sorted(found.entries, key=lambda entry: entry.bits):
        measured = entry.comparison.overall
        rows.append(
            (
                entry.name,
                size(entry.size),
                f"{entry.bits:.2f}",
                f"{measured.kl_mean:.5f} ± {measured.kl_mean_se:.5f}",
                f"{measured.same_top:.2%}",
                size(entry.memory) if found.advice else "",
                "" if (entry.bits, measured.kl_mean) in edge else "another is smaller and better",
            )
        )
    lines = align(rows)
    if found.advice is not None:
        said = f"take {found.advice.chosen}" if found.advice.chosen else "none of these fits"
        lines += ["", f"For {size(found.advice.memory)} of memory: {said}."]
    return "\n".join(lines)


def parse_size(text: str) -> int:
    """Bytes."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMG]i?B|)", text.strip(), re.IGNORECASE)
    if found is None or float(found[1]) <= 0:
        raise typer.BadParameter("write it as 8GB, 500MB or 7.5GiB", param_hint="--memory")
    return int(float(found[1]) * _UNITS[found[2].upper()])

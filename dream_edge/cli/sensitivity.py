"""`dream-edge sensitivity`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .terminal.io import print_json
from .terminal.progress import show_progress
from .terminal.table import align

if TYPE_CHECKING:
    from dream_edge import Sensitivity


def sensitivity(
    checkpoint: options.CheckpointArgument,
    formats: Annotated[
        str,
        typer.Option(metavar="A,B", help="Formats to try: int4-N, int8-N, nf4-N (in groups of N), int8, fp16."),
    ] = "int4-128,int4-32,int8-128",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Keep what is measured; run again to resume or to add formats."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=".txt or .jsonl, but not the texts of a comparison.  [default: built in]"),
    ] = None,
    sequences: Annotated[int, typer.Option(metavar="N", min=2, help="Masked texts to measure on.")] = 32,
    longest: Annotated[int, typer.Option(metavar="N", min=2, help="Tokens of a text at most.")] = 128,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed for the texts and their masks.")] = 0,
    attention: options.Attention = None,
    shift: options.Shift = None,
    mask_token: options.MaskToken = None,
    json: options.PrintJson = False,
) -> None:
    """Measure which matrices matter.

    Every matrix and every layer is rounded alone, all others staying exact, and the change of the predictions is
    measured as KL divergence. `export --scheme mixed --bits N --sensitivity FILE` spends its bits by the result. One
    layer is in memory at a time.
    """
    import dream_edge

    with show_progress() as progress:
        found = dream_edge.sensitivity(
            checkpoint,
            formats=formats.split(","),
            out=out,
            data=data,
            sequences=sequences,
            longest=longest,
            seed=seed,
            attention=attention,
            shift=shift,
            mask_token=mask_token,
            progress=progress,
        )
    if json:
        print_json(found.to_dict())
    else:
        typer.echo(describe(found))


def describe(found: Sensitivity) -> str:
    """KL by layer and matrix in millionths of a nat, a table for each format; and whether losses add up."""
    from dream_edge.quality.report.tables import heat_map, millionths
    from dream_edge_runtime.format.tensors import LM_HEAD

    blocks = []
    for each in found.heat_maps():
        table, head = heat_map(each), found.single(LM_HEAD, each.format)
        lines = [table.caption, *align(table.lines)]
        blocks.append("\n".join(lines + ([f"lm_head {millionths(head.kl_mean)}"] if head else [])))
    whole = [each for each in found.additivity() if len(each.effect.change) > 7]
    if whole:
        summary: list[tuple[str, ...]] = [("matrices", "formats", "measured together", "sum of single ones", "ratio")]
        for effect in whole:
            names = " ".join(sorted(set(effect.effect.change.values())))
            measured = f"{effect.effect.kl_mean:.6f} ± {effect.effect.kl_mean_se:.6f}"
            summary.append(
                (str(len(effect.effect.change)), names, measured, f"{effect.sum:.6f}", f"{effect.ratio:.2f}")
            )
        blocks.append("\n".join(align(summary)))
    blocks.append(f"{found.sequences} texts, {found.positions} masked positions, seed {found.seed}")
    return "\n\n".join(blocks)

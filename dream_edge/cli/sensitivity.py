"""`dream-edge sensitivity`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dream_edge_runtime.progress import Meter, OnProgress, silent
from dream_edge_runtime.units import duration, size

from .terminal.io import aligned, note, print_json
from .terminal.progress import show_progress

if TYPE_CHECKING:
    from dream_edge.quality.sensitivity.effects import Sensitivity
    from dream_edge.quality.sensitivity.measure import Measuring
    from dream_edge_export.checkpoint.checkpoint import Checkpoint


class ThemeName(StrEnum):
    LIGHT = "light"
    DARK = "dark"


FORMATS = "int4-128,int4-32,int8-128"


def sensitivity(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help='A Dream checkpoint: directory, owner/name, or "tiny".')
    ],
    formats: Annotated[
        str,
        typer.Option(metavar="A,B", help="Formats to try: int4-N, int8-N, nf4-N (in groups of N), int8, fp16."),
    ] = FORMATS,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Keep what is measured; run again to go on or to add formats."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw a heat map: .png, .svg or .pdf.")] = None,
    theme: Annotated[ThemeName, typer.Option(help="Of the heat map.")] = ThemeName.LIGHT,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=".txt or .jsonl, but not the texts of a comparison.  [default: built in]"),
    ] = None,
    sequences: Annotated[int, typer.Option(metavar="N", min=2, help="Masked texts to measure on.")] = 32,
    longest: Annotated[int, typer.Option(metavar="N", min=2, help="Tokens of a text at most.")] = 128,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the texts and their masks.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure which matrices matter.

    Every matrix and every layer is rounded alone, all others staying exact, and the change of the predictions is
    measured as KL divergence. `export --scheme mixed --bits N --sensitivity FILE` spends its bits by the result. One
    layer is in memory at a time.
    """
    from dream_edge.models import open_checkpoint
    from dream_edge.quality.sensitivity.heat_map import check_plot, draw_heat_map

    if plot is not None:
        check_plot(plot)
    with show_progress() as shown:
        opened = open_checkpoint(checkpoint, "Measuring sensitivities", progress=shown)
        found = measure(
            opened,
            formats=formats,
            out=out,
            data=data,
            sequences=sequences,
            longest=longest,
            seed=seed,
            progress=shown,
        )
    if plot is not None:
        draw_heat_map(found, plot, theme.value)
    if json:
        print_json(found.to_dict())
    else:
        typer.echo(tables(found))


def measure(
    checkpoint: Checkpoint,
    *,
    out: Path | None,
    formats: str = FORMATS,
    data: Path | None = None,
    sequences: int = 32,
    longest: int = 128,
    seed: int = 0,
    progress: OnProgress = silent,
) -> Sensitivity:
    """Measure, say so beforehand, and keep in `out` what is done after every wave."""
    from dream_edge.quality import read_texts
    from dream_edge.quality.errors import MeasurementsUnfit
    from dream_edge.quality.sensitivity.effects import Sensitivity
    from dream_edge.quality.sensitivity.formats import format_of
    from dream_edge.quality.sensitivity.measure import measuring, recipe_passages

    asked = [format_of(name.strip()) for name in formats.split(",")]
    known = Sensitivity.read(out) if out is not None and out.exists() else None
    texts = None if data is None else read_texts(data)
    masked = recipe_passages(checkpoint, data=texts, sequences=sequences, longest=longest, seed=seed)
    work = measuring(checkpoint, masked, asked, seed=seed, known=known)
    if out is not None and known is not None and work.known is not known:
        raise MeasurementsUnfit(out, "it is of another checkpoint, other texts or another seed")
    _announce(work)
    found = work.known
    if out is not None:
        found.write(out)  # now, not after the first hour, it is seen whether it can be written
    for found in work.run(Meter(progress, "measuring", work.plan.passes, "passes").reach):
        if out is not None:
            found.write(out)
    return found


def _announce(work: Measuring) -> None:
    plan = work.plan
    done = f"; {len(work.known.effects)} are known" if work.known.effects else ""
    tokens = sum(len(canvas.ids) for canvas in plan.canvases)
    note(
        f"{len(plan.variants)} changes to measure{done}: the work of {plan.passes:.0f} passes over "
        f"{len(plan.canvases)} sequences of {tokens} tokens together; "
        f"it takes {size(plan.memory)} of memory and about {duration(plan.seconds())}"
    )


def tables(found: Sensitivity) -> str:
    """KL by layer and matrix in millionths of a nat, a table for each format; and whether losses add up."""
    from dream_edge.quality.sensitivity.heat_map import COLUMNS, table
    from dream_edge_runtime.format.tensors import LM_HEAD

    blocks = []
    for format_ in found.formats:
        rows: list[tuple[str, ...]] = [("layer", *COLUMNS[:-1], "whole")]
        rows += [(str(index), *map(_millionths, row)) for index, row in enumerate(table(found, format_))]
        head = found.single(LM_HEAD, format_)
        lines = [f"{format_}: KL in millionths of a nat", *aligned(rows)]
        blocks.append("\n".join(lines + ([f"lm_head {_millionths(head.kl_mean)}"] if head else [])))
    whole = [each for each in found.additivity() if len(each.effect.change) > 7]
    if whole:
        summary: list[tuple[str, ...]] = [("matrices", "formats", "measured together", "sum of single ones", "ratio")]
        for each in whole:
            names = sorted(set(each.effect.change.values()))
            measured = f"{each.effect.kl_mean:.6f} ± {each.effect.kl_mean_se:.6f}"
            summary.append(
                (str(len(each.effect.change)), " ".join(names), measured, f"{each.sum:.6f}", f"{each.ratio:.2f}")
            )
        blocks.append("\n".join(aligned(summary)))
    blocks.append(f"{found.sequences} texts, {found.positions} masked positions, seed {found.seed}")
    return "\n\n".join(blocks)


def _millionths(value: float) -> str:
    return "" if value != value else f"{value * 1e6:.1f}"

"""`dream-edge compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as given
from .base import Asked, obtain_base
from .base_extras import AskedExtras, with_extras
from .compare_table import table
from .compare_tasks import check_learnt, with_task_scores
from .report import AskedReport, Directory
from .terminal.io import print_json
from .terminal.progress import progress, show_progress

if TYPE_CHECKING:
    from dream_edge.quality import Base, Comparison
    from dream_edge_runtime.artifact import Artifact

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
        Path | None, typer.Option(metavar="FILE", help="Keep its predictions, and go on there when interrupted.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help=".txt (texts between blank lines) or .jsonl (text or messages); more than once.  [default: built in]",
        ),
    ] = None,
    sequences: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Masked texts to measure.  [default: 128]")
    ] = None,
    longest: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="Cut texts to so many tokens.  [default: 512]")
    ] = None,
    bins: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Intervals of mask ratios.  [default: 5]")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="Of the masks.  [default: 0]")] = None,
    tasks: Annotated[
        bool, typer.Option("--tasks", help="Score the tasks too; for the bundled model and its like, which know them.")
    ] = False,
    cases: Annotated[int, typer.Option(metavar="N", min=1, help="Of each task.")] = 100,
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
        list[given.Algorithm] | None,
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
        typer.Option(metavar="N", min=1, help="At most so many of each.  [default: 32]", rich_help_panel=TRAJECTORY),
    ] = None,
    report: Directory = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="For the report: what `dream-edge sensitivity --out` wrote."),
    ] = None,
    update_card: Annotated[
        bool, typer.Option("--update-card", help="Write a summary into each artifact's README.md.")
    ] = False,
    threads: given.Threads = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure what quantization cost.

    Artifacts are held against their checkpoint in full precision, on masked texts; it is evaluated layer by layer, so
    that it need not fit into memory, and what it says can be kept in a file. KL divergence in nats; same-top is
    the share of positions with the same best token; ΔELBO in nats a token (below 0: the texts became less likely). ±
    is one standard error.
    """
    from dream_edge.models import open_artifact

    asked = Asked(
        reference=reference,
        base=base,
        save_base=save_base,
        data=data or (),
        sequences=sequences,
        longest=longest,
        bins=bins,
        seed=seed,
    )
    extras = AskedExtras(
        noise_floor=noise_floor,
        trajectory=trajectory,
        algorithms=[each.value for each in algorithm or ()],
        steps=steps or (),
        texts=texts,
        new_tokens=new_tokens,
    )
    written = AskedReport(report=report, sensitivity=sensitivity, cards=update_card)
    written.check()
    with show_progress() as shown:
        opened = [open_artifact(name, progress=shown) for name in artifacts]
    if tasks:
        if reference is None:
            raise typer.BadParameter("the reference solves them too: name it (--reference)", param_hint="--tasks")
        check_learnt(opened)
    with obtain_base(asked, opened) as (obtained, checkpoint):
        tokenizer = opened[0].tokenizer()
        obtained = with_extras(obtained, checkpoint, extras, is_new=base is None, tokenizer=tokenizer, data=data or ())
        comparisons = compared(opened, obtained, recorded=trajectory is not False, threads=threads)
        if tasks and checkpoint is not None:
            comparisons = with_task_scores(comparisons, opened, checkpoint, cases=cases, threads=threads)
    written.write(opened, comparisons, obtained.name)
    if json:
        found = [comparison.to_dict() for comparison in comparisons]
        print_json(found[0] if len(found) == 1 else {"comparisons": found})
    else:
        typer.echo("\n\n".join(table(comparison) for comparison in comparisons))


def compared(artifacts: Sequence[Artifact], base: Base, *, recorded: bool, threads: int | None) -> list[Comparison]:
    """Each of `artifacts` against `base`, with its progress shown; without its trajectories unless `recorded`."""
    from dream_edge.quality import compare as measure
    from dream_edge.quality.comparison import pass_count

    trajectories = None if recorded else ()
    comparisons = []
    for artifact in artifacts:
        total = pass_count(base, trajectories)
        with progress(f"Comparing {artifact.path.name}", total, lambda done: f"{done:.0f}") as advance:
            comparison = measure(
                artifact,
                base,
                recorded=trajectories,
                threads=threads,
                progress=lambda done, _, advance=advance: advance(done),  # type: ignore[misc]
            )
        comparisons.append(comparison)
    return comparisons

"""`dream-edge sweep`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dream_edge_runtime.units import size

from . import options as given
from .base import Asked, obtain_base
from .base_extras import AskedExtras, with_extras
from .compare import compared
from .report import AskedReport, Directory
from .terminal.io import aligned, note
from .terminal.progress import show_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dream_edge.quality.report import Advice, Entry
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.format.recipe import Recipe

SCHEMES = "int8,int4,mixed,nf4"
BASE = "base"

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def sweep(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help='A Dream checkpoint: directory, owner/name, or "tiny".')
    ],
    schemes: Annotated[
        str,
        typer.Option(metavar="A,B", help="Schemes to try; int4-32 is int4 in groups of 32, and so on."),
    ] = SCHEMES,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For artifacts and predictions.  [default: CHECKPOINT's name, -sweep]"),
    ] = None,
    report: Directory = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Recommend one for so much, as 8GB.  [default: what is free now]"),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Texts, as for compare; more than once.  [default: built in]"),
    ] = None,
    sequences: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Masked texts to measure.  [default: 128]")
    ] = None,
    longest: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="Cut texts to so many tokens.  [default: 512]")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="Of the masks.  [default: 0]")] = None,
    trajectory: Annotated[
        bool | None,
        typer.Option(
            "--trajectory/--no-trajectory",
            help="What flips along the reference's own decoding.  [default: if it is small]",
            show_default=False,
        ),
    ] = None,
    threads: given.Threads = None,
    force: Annotated[bool, typer.Option("--force", help="Replace artifacts in DIR that were made otherwise.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Export several schemes, compare them, and recommend one.

    Everything is kept in a directory: the artifacts, and what the full-precision network predicts. Run again, the same
    command goes on where it stopped and leaves alone what is whole.
    """
    from dream_edge.models import open_checkpoint
    from dream_edge.quality.report import Entry, advise

    from .terminal.io import print_json

    available = _memory(memory)
    written = AskedReport(report=report)
    written.check()
    names = list(dict.fromkeys(each.strip() for each in schemes.split(",")))
    recipes_for(dict.fromkeys(names, 1))  # refuses bad names before a checkpoint is downloaded
    with show_progress() as progress:
        opened = open_checkpoint(checkpoint, "Exporting a checkpoint", progress=progress)
    directory = out or Path(f"{opened.path.name}-sweep")
    recipes = recipes_for(dict.fromkeys(names, opened.config.num_hidden_layers))
    artifacts = [exported(opened, directory / name, recipe, force=force) for name, recipe in recipes.items()]
    asked = Asked(
        reference=checkpoint,
        base=None,
        save_base=directory / BASE,
        data=data or (),
        sequences=sequences,
        longest=longest,
        bins=None,
        seed=seed,
    )
    extras = AskedExtras(noise_floor=None, trajectory=trajectory, algorithms=(), steps=(), texts=None, new_tokens=None)
    with obtain_base(asked, artifacts) as (base, _):
        tokenizer = artifacts[0].tokenizer()
        base = with_extras(base, opened, extras, is_new=True, tokenizer=tokenizer, data=data or ())
        comparisons = compared(artifacts, base, recorded=trajectory is not False, threads=threads)
    entries = [*map(Entry.of, artifacts, comparisons)]
    advice = advise([*zip(artifacts, entries, strict=True)], available) if available else None
    written.write(artifacts, comparisons, base.name, advice)
    if json:
        print_json(
            {
                "comparisons": [comparison.to_dict() for comparison in comparisons],
                "recommended": None if advice is None else advice.chosen,
                "needed_bytes": {} if advice is None else dict(advice.needed),
            }
        )
    else:
        typer.echo(table(entries, advice))


def recipes_for(layers: Mapping[str, int]) -> dict[str, Recipe]:
    """The recipes called e.g. "int8" or "int4-32", for networks of so many layers. Raises InvalidOption."""
    from dream_edge_runtime.format.recipe import Recipe

    found = {}
    for name, count in layers.items():
        scheme, _, block = name.partition("-")
        block_size = int(block) if block.isdecimal() else None
        found[name] = Recipe.for_scheme(name if block_size is None else scheme, block_size=block_size, layers=count)
    return found


def exported(checkpoint: Checkpoint, out: Path, recipe: Recipe, *, force: bool) -> Artifact:
    """The artifact at `out`, made unless one of the same checkpoint, recipe and release is there."""
    from dream_edge.hub import source
    from dream_edge_export.checkpoint.provenance import provenance, version
    from dream_edge_export.export import export as write
    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.format.manifest import MANIFEST
    from dream_edge_runtime.graph.signature import PRODUCER

    if (out / MANIFEST).is_file():
        artifact = Artifact.open(out)
        made = artifact.manifest
        wanted = (recipe, provenance(checkpoint, source(checkpoint.path)), f"{PRODUCER} {version()}")
        if (made.recipe, dict(made.provenance), made.producer) == wanted:
            note(f"{out} is there already")
            return artifact
    with show_progress() as progress:
        return write(checkpoint, out, recipe, force=force, source=source(checkpoint.path), progress=progress)


def table(entries: list[Entry], advice: Advice | None) -> str:
    """By size, with those marked that no other is both smaller and better than; the advice last."""
    from dream_edge.quality.report.pictures import frontier

    edge = frontier([(entry.bits, entry.comparison.overall.kl_mean) for entry in entries])
    rows: list[tuple[str, ...]] = [("scheme", "size", "bits", "KL mean", "same-top", "memory", "")]
    for entry in sorted(entries, key=lambda entry: entry.bits):
        measured = entry.comparison.overall
        rows.append(
            (
                entry.name,
                size(entry.size),
                f"{entry.bits:.2f}",
                f"{measured.kl_mean:.5f} ± {measured.kl_mean_se:.5f}",
                f"{measured.same_top:.2%}",
                size(advice.needed[entry.name]) if advice else "",
                "" if (entry.bits, measured.kl_mean) in edge else "another is smaller and better",
            )
        )
    lines = aligned(rows)
    if advice is not None:
        said = f"take {advice.chosen}" if advice.chosen else "none of these fits"
        lines += ["", f"For {size(advice.memory)} of memory: {said}."]
    return "\n".join(lines)


def _memory(text: str | None) -> int | None:
    """Bytes; of this machine what is free, if it says so."""
    from dream_edge_runtime.free_memory import free_memory

    if text is None:
        return free_memory()
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMG]i?B|)", text.strip(), re.IGNORECASE)
    if found is None or float(found[1]) <= 0:
        raise typer.BadParameter("write it as 8GB, 500MB or 7.5GiB", param_hint="--memory")
    return int(float(found[1]) * _UNITS[found[2].upper()])

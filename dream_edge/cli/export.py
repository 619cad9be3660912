"""`dream-edge export`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as given
from .budget import check_budget, recipe_within
from .progress import progress
from .pull import at_hand
from .terminal import duration, note, number, size

if TYPE_CHECKING:
    from dream_edge_export.checkpoint import Checkpoint
    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.recipe import Recipe


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", help='A Dream checkpoint: directory, owner/name, or "tiny".'),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory for the artifact.")],
    scheme: Annotated[
        given.SchemeName,
        typer.Option(
            help="int4 is the small one, int8 the fast one on CPUs, mixed the careful one, fp32 the exact one."
        ),
    ],
    target: Annotated[given.TargetName, typer.Option(help="What it is to run on.")] = given.TargetName.CPU,
    block_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="4-bit schemes: weights in a group, 16 to 256.  [default: 128 on the CPU, 32 on CUDA, 64 for nf4]",
        ),
    ] = None,
    symmetric: Annotated[
        bool | None,
        typer.Option(
            "--symmetric/--asymmetric",
            help="int4 and mixed: groups without or with a zero point.  [default: symmetric on CUDA only]",
            show_default=False,
        ),
    ] = None,
    bits: Annotated[
        float | None,
        typer.Option(
            metavar="B",
            help="mixed: spend at most so many bits per weight where they save most, by what --sensitivity measured.",
        ),
    ] = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="What `dream-edge sensitivity` measured.  [default: measured now, kept in OUT.sensitivity.json]",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the artifact at OUT, once the new one is whole.")
    ] = False,
) -> None:
    """Turn a checkpoint into an artifact.

    An artifact is a directory: ONNX graph, quantized weights, tokenizer, manifest. It appears when it is whole; an
    export that was interrupted goes on where it stopped when the same command is run again.
    """
    from dream_edge_runtime.recipe import Recipe

    def recipe_for(layers: int) -> Recipe:
        return Recipe.for_scheme(
            scheme.value, target=target.value, block_size=block_size, symmetric=symmetric, layers=layers
        )

    recipe_for(1)  # refuses bad options before a checkpoint is downloaded
    check_budget(
        bits, sensitivity, scheme=scheme.value, target=target.value, block_size=block_size, symmetric=symmetric
    )
    opened = open_checkpoint(checkpoint, "Exporting a checkpoint")
    chosen_by = None
    if bits is None:
        recipe = recipe_for(opened.config.num_hidden_layers)
    else:
        _check_out(opened, out, force=force)
        recipe, chosen_by = recipe_within(bits, opened, sensitivity, out)
    _announce(opened, out, recipe, force=force)
    artifact = write_artifact(opened, out, recipe, force=force, chosen_by=chosen_by)
    achieved = ", ".join(
        f"{formats.bits_per_weight(opened.config):.2f} bits per weight on {name}"
        for name, formats in recipe.targets.items()
    )
    typer.echo(f"{out}: {scheme.value}, {size(artifact.size)}, {achieved}.")
    note(f"Next: dream-edge generate {out} -p 'Hello!'   or: dream-edge compare {out} --reference {checkpoint}")


def open_checkpoint(name: str, purpose: str) -> Checkpoint:
    """The checkpoint called `name`, checked; MissingExtra, naming `purpose`, without the libraries that read it."""
    from dream_edge import resolve_checkpoint
    from dream_edge.hub import Kind
    from dream_edge_runtime.errors import MissingExtra

    path = resolve_checkpoint(at_hand(name, Kind.CHECKPOINT))
    try:
        from dream_edge_export.checkpoint import Checkpoint
    except ImportError:
        raise MissingExtra(purpose, "export") from None
    return Checkpoint.open(path)


def _check_out(checkpoint: Checkpoint, out: Path, *, force: bool) -> None:
    from dream_edge_export.plan import check_output
    from dream_edge_export.staging import goal

    check_output(checkpoint, goal(out), force=force)


def _announce(checkpoint: Checkpoint, out: Path, recipe: Recipe, *, force: bool) -> None:
    """Say what is going to happen, once it is known that it can."""
    from dream_edge_export.plan import ExportPlan, free_disk
    from dream_edge_export.staging import staging_of
    from dream_edge_runtime.recipe import parameter_count

    plan = ExportPlan(checkpoint, recipe)
    _check_out(checkpoint, out, force=force)
    files = "1 file" if len(checkpoint.files) == 1 else f"{len(checkpoint.files)} files"
    note(f"{checkpoint.path}: {number(parameter_count(checkpoint.config))} parameters in {files}")
    done = plan.finished_bytes(out)
    if done:
        note(f"Going on with the {size(done)} that an earlier run left in {staging_of(out)}, after checking them")
    share = 1 - done / plan.written_bytes
    note(
        f"Writing {size(plan.written_bytes)} as {recipe.scheme} to {out}, where {size(free_disk(out))} are free; "
        f"it takes {size(plan.memory)} of memory and about {duration(plan.seconds() * share)}"
    )


def write_artifact(
    checkpoint: Checkpoint,
    out: Path,
    recipe: Recipe,
    *,
    force: bool = False,
    chosen_by: Mapping[str, Any] | None = None,
) -> Artifact:
    """`dream_edge_export.export`, with its progress shown; a checkpoint from a hub is recorded as such."""
    from dream_edge.hub import source
    from dream_edge_runtime.errors import MissingExtra, OutputBusy

    try:
        from dream_edge_export.export import export as write
        from dream_edge_export.plan import ExportPlan
        from dream_edge_export.staging import staging_of
    except ImportError:
        raise MissingExtra("Exporting a checkpoint", "export") from None

    plan = ExportPlan(checkpoint, recipe)
    try:
        with progress(f"Exporting {recipe.scheme}", plan.read_bytes, size) as advance:
            return write(
                checkpoint,
                out,
                recipe,
                force=force,
                source=source(checkpoint.path),
                chosen_by=chosen_by,
                progress=lambda state: advance(state.done),
            )
    except OutputBusy:  # what lies there belongs to the other export
        raise
    except BaseException:
        done = plan.finished_bytes(out)
        if done:
            note(f"{size(done)} are finished and kept: the same command goes on there. To give them up, remove them:")
            note(f"  {shlex.join(['rm', '-r', str(staging_of(out))])}")
        raise

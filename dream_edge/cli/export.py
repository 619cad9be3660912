"""`dream-edge export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as given
from .progress import progress
from .terminal import note, number, size

if TYPE_CHECKING:
    from dream_edge_export.checkpoint import Checkpoint
    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.recipe import Recipe


def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help='Directory of a Dream checkpoint (safetensors), or "tiny".')
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
    force: Annotated[
        bool, typer.Option("--force", help="Replace the artifact at OUT, once the new one is whole.")
    ] = False,
) -> None:
    """Turn a checkpoint into an artifact.

    An artifact is a directory: ONNX graph, quantized weights, tokenizer, manifest.
    """
    from dream_edge_runtime.recipe import Recipe

    opened = open_checkpoint(checkpoint, "Exporting a checkpoint")
    recipe = Recipe.for_scheme(
        scheme.value,
        target=target.value,
        block_size=block_size,
        symmetric=symmetric,
        layers=opened.config.num_hidden_layers,
    )
    stored = sum(file.stat().st_size for file in opened.files)
    note(f"{opened.path}: {number(parameters(opened))} parameters, {size(stored)}")
    note(f"Writing {out} as {scheme.value}: about {size(recipe.stored_bytes(opened.config))}")
    artifact = write_artifact(opened, out, recipe, force=force)
    bits = ", ".join(
        f"{formats.bits_per_weight(opened.config):.2f} bits per weight on {name}"
        for name, formats in recipe.targets.items()
    )
    typer.echo(f"{out}: {scheme.value}, {size(artifact.size)}, {bits}.")
    note(f"Next: dream-edge generate {out} -p 'Hello!'   or: dream-edge compare {out} --reference {checkpoint}")


def open_checkpoint(name: str, purpose: str) -> Checkpoint:
    """The checkpoint called `name`, checked; MissingExtra, naming `purpose`, without the libraries that read it."""
    from dream_edge import resolve_checkpoint
    from dream_edge_runtime.errors import MissingExtra

    path = resolve_checkpoint(name)
    try:
        from dream_edge_export.checkpoint import Checkpoint
    except ImportError:
        raise MissingExtra(purpose, "export") from None
    return Checkpoint.open(path)


def write_artifact(checkpoint: Checkpoint, out: Path, recipe: Recipe, *, force: bool = False) -> Artifact:
    """`dream_edge_export.export`, with its progress shown."""
    from dream_edge_runtime.errors import MissingExtra

    try:
        from dream_edge_export.export import export as write
    except ImportError:
        raise MissingExtra("Exporting a checkpoint", "export") from None

    with progress(f"Exporting {recipe.scheme}", parameters(checkpoint), number) as advance:
        return write(checkpoint, out, recipe, force=force, progress=lambda state: advance(state.done))


def parameters(checkpoint: Checkpoint) -> int:
    from dream_edge_runtime.recipe import parameter_count

    return parameter_count(checkpoint.config)

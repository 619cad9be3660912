"""`dream-edge export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dream_edge_runtime.units import size

from . import options
from .terminal.io import note
from .terminal.progress import show_progress


def export(
    checkpoint: options.CheckpointArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory for the artifact.")],
    scheme: Annotated[
        options.SchemeName,
        typer.Option(
            help="int4 is the small one, int8 the fast one on CPUs, mixed the careful one, fp32 the exact one."
        ),
    ],
    target: Annotated[options.TargetName, typer.Option(help="What it is to run on.")] = "cpu",
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
            help="mixed: at most B bits per weight, spent where they save most by what --sensitivity measured.",
        ),
    ] = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="What `dream-edge sensitivity` measured.  [default: measured now, kept in OUT.sensitivity.json]",
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Choose the rounding on masked texts, which loses far less and takes hours for a 7B.",
        ),
    ] = False,
    calibration_data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --calibrate: .txt (texts between blank lines) or .jsonl (text or messages).  "
            "[default: built in]",
        ),
    ] = None,
    calibration_sequences: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="With --calibrate: masked sequences.  [default: 256]"),
    ] = None,
    attention: options.Attention = None,
    shift: options.Shift = None,
    mask_token: options.MaskToken = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the artifact at OUT, once the new one is whole.")
    ] = False,
) -> None:
    """Turn a checkpoint into an artifact.

    An artifact is a directory: ONNX graph, quantized weights, tokenizer, manifest. It appears when it is whole; an
    export that was interrupted resumes where it stopped when the same command is run again.
    """
    import dream_edge

    with show_progress() as progress:
        artifact = dream_edge.export(
            checkpoint,
            out,
            scheme=scheme,
            target=target,
            block_size=block_size,
            symmetric=symmetric,
            bits=bits,
            sensitivity=sensitivity,
            calibrate=calibrate,
            calibration_data=calibration_data,
            calibration_sequences=calibration_sequences,
            attention=attention,
            shift=shift,
            mask_token=mask_token,
            force=force,
            progress=progress,
        )
    config, recipe = artifact.manifest.config, artifact.manifest.recipe
    achieved = ", ".join(
        f"{formats.bits_per_weight(config):.2f} bits per weight on {name}" for name, formats in recipe.targets.items()
    )
    typer.echo(f"{out}: {recipe.scheme}, {size(artifact.size)}, {achieved}.")
    note(f"Next: dream-edge generate {out} -p 'Hello!'   or: dream-edge compare {out} --reference {checkpoint}")

"""`dream-edge export`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as given
from .budget import check_budget, recipe_within
from .pull import at_hand
from .terminal.io import duration, note, number, size
from .terminal.progress import Advance, progress

if TYPE_CHECKING:
    from dream_edge.quality import Text
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.export import ExportProgress
    from dream_edge_export.quantize.calibrate import CalibrationSet
    from dream_edge_runtime.artifact import Artifact
    from dream_edge_runtime.format.recipe import Recipe


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
    force: Annotated[
        bool, typer.Option("--force", help="Replace the artifact at OUT, once the new one is whole.")
    ] = False,
) -> None:
    """Turn a checkpoint into an artifact.

    An artifact is a directory: ONNX graph, quantized weights, tokenizer, manifest. It appears when it is whole; an
    export that was interrupted goes on where it stopped when the same command is run again.
    """
    from dream_edge.quality import read_texts
    from dream_edge_runtime.errors import InvalidOption
    from dream_edge_runtime.format.recipe import Recipe

    for option, value in (("calibration-data", calibration_data), ("calibration-sequences", calibration_sequences)):
        if value is not None and not calibrate:
            raise InvalidOption(option, value, "belongs to --calibrate")

    def recipe_for(layers: int) -> Recipe:
        return Recipe.for_scheme(
            scheme.value, target=target.value, block_size=block_size, symmetric=symmetric, layers=layers
        )

    recipe_for(1)  # refuses bad options before a checkpoint is downloaded
    texts = None if calibration_data is None else read_texts(calibration_data)
    check_budget(
        bits, sensitivity, scheme=scheme.value, target=target.value, block_size=block_size, symmetric=symmetric
    )
    opened = open_checkpoint(checkpoint, "Exporting a checkpoint")
    if calibrate:
        _check_calibration(recipe_for(opened.config.num_hidden_layers))
    chosen_by = None
    if bits is None:
        recipe = recipe_for(opened.config.num_hidden_layers)
    else:
        _check_out(opened, out, force=force)
        recipe, chosen_by = recipe_within(bits, opened, sensitivity, out)
    calibration = None
    if calibrate:
        calibration = _calibration(opened, texts, calibration_data, calibration_sequences)
    _announce(opened, out, recipe, calibration, force=force)
    artifact = write_artifact(opened, out, recipe, calibration, force=force, chosen_by=chosen_by)
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
        from dream_edge_export.checkpoint.checkpoint import Checkpoint
    except ImportError:
        raise MissingExtra(purpose, "export") from None
    return Checkpoint.open(path)


def _check_calibration(recipe: Recipe) -> None:
    from dream_edge_export.quantize.calibrate import check_calibration

    check_calibration(recipe)


def _calibration(
    checkpoint: Checkpoint, texts: Sequence[Text] | None, file: Path | None, sequences: int | None
) -> CalibrationSet:
    from dream_edge.quality.calibration import SEQUENCES, calibration_set

    name = "" if file is None else file.name if file.name.isprintable() else ascii(file.name)
    return calibration_set(checkpoint, data=texts, name=name[-100:], sequences=sequences or SEQUENCES)


def _check_out(checkpoint: Checkpoint, out: Path, *, force: bool) -> None:
    from dream_edge_export.plan import check_output
    from dream_edge_export.staging import goal

    check_output(checkpoint, goal(out), force=force)


def _announce(
    checkpoint: Checkpoint, out: Path, recipe: Recipe, calibration: CalibrationSet | None, *, force: bool
) -> None:
    """Say what is going to happen, once it is known that it can."""
    from dream_edge_export.plan import ExportPlan
    from dream_edge_export.staging import staging_of
    from dream_edge_runtime.files.writing import free_disk
    from dream_edge_runtime.format.tensors import parameter_count

    plan = ExportPlan.of(checkpoint, recipe, calibration)
    _check_out(checkpoint, out, force=force)
    files = "1 file" if len(checkpoint.files) == 1 else f"{len(checkpoint.files)} files"
    note(f"{checkpoint.path}: {number(parameter_count(checkpoint.config))} parameters in {files}")
    if calibration is not None:
        note(
            f"Calibrating on {calibration}: it takes up to {size(plan.calibration_disk)} of disk meanwhile and very "
            f"roughly {duration(plan.calibration_seconds())}"
        )
    kept, done = plan.kept_bytes(out), plan.finished_bytes(out)
    if kept:
        note(f"Going on with the {size(kept)} that an earlier run left in {staging_of(out)}, after checking them")
    share = 1 - done / plan.written_bytes
    note(
        f"Writing {size(plan.written_bytes)} as {recipe.scheme} to {out}, where {size(free_disk(out))} are free; "
        f"it takes {size(plan.memory)} of memory and about {duration(plan.seconds() * share)}"
    )


def write_artifact(
    checkpoint: Checkpoint,
    out: Path,
    recipe: Recipe,
    calibration: CalibrationSet | None = None,
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

    plan = ExportPlan.of(checkpoint, recipe, calibration)
    try:
        with _bars(recipe.scheme) as show:
            return write(
                checkpoint,
                out,
                recipe,
                calibration=calibration,
                force=force,
                source=source(checkpoint.path),
                chosen_by=chosen_by,
                progress=show,
            )
    except OutputBusy:  # what lies there belongs to the other export
        raise
    except BaseException:
        done = plan.kept_bytes(out)
        if done:
            note(f"{size(done)} are finished and kept: the same command goes on there. To give them up, remove them:")
            note(f"  {shlex.join(['rm', '-r', str(staging_of(out))])}")
        raise


@contextmanager
def _bars(scheme: str) -> Iterator[Callable[[ExportProgress], None]]:
    """Shows one bar for each task of an export, one after the other."""
    tasks: dict[str, tuple[str, Callable[[float], str]]] = {
        "calibrating": (f"Calibrating {scheme}", lambda layers: f"{layers:.1f} layers"),
        "writing": (f"Exporting {scheme}", size),
    }
    shown: dict[str, Advance] = {}
    with ExitStack() as bar:

        def show(state: ExportProgress) -> None:
            if state.task not in shown:
                bar.close()
                label, amount = tasks[state.task]
                shown[state.task] = bar.enter_context(progress(label, state.total, amount))
            shown[state.task](state.done)

        yield show

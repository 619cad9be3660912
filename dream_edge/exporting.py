"""From the name of a checkpoint to an artifact: what `dream-edge export` calls."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.recipe import Recipe, Scheme, Target
from dream_edge_runtime.generation.option import Real
from dream_edge_runtime.progress import OnProgress, silent

from .hub import source
from .models import open_checkpoint
from .quality import Text, read_texts

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.quantize.calibrate import CalibrationSet

_log = logging.getLogger(__name__)


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    scheme: Scheme,
    target: Target | Literal["all"] = "cpu",
    block_size: int | None = None,
    symmetric: bool | None = None,
    bits: float | None = None,
    sensitivity: str | Path | None = None,
    calibrate: bool = False,
    calibration_data: str | Path | Sequence[Text] | None = None,
    calibration_sequences: int | None = None,
    attention: str | None = None,
    shift: int | None = None,
    mask_token: str | None = None,
    force: bool = False,
    progress: OnProgress = silent,
) -> Artifact:
    """Write the artifact of a checkpoint into directory `out`.

    It appears when it is whole. An export that was interrupted resumes when it is called again with the same arguments.
    What it is going to take is logged (level INFO) before it begins.

    Args:
        checkpoint: its directory, its name on a hub, or "tiny".
        scheme: "int4" is the small one, "int8" the fast one on CPUs, "mixed" the careful one, "fp32" the exact one.
        target: what it is to run on; "all" writes a graph for each.
        block_size: weights in a group of the 4-bit schemes, 16 to 256; None = 128 on the CPU, 32 on CUDA, 64 for nf4.
        symmetric: int4 and mixed: groups without a zero point; None = on CUDA only.
        bits: mixed: the most bits per weight, spent where they save most.
        sensitivity: the file by which `bits` are spent; None = measured first, and kept in OUT.sensitivity.json.
        calibrate: choose the rounding on masked texts, which loses far less and takes hours for a 7B.
        calibration_data: the texts, or a .txt or .jsonl file of them; None = built-in ones.
        calibration_sequences: masked sequences; None = 256.
        attention, shift, mask_token: what the checkpoint's files leave open: "full" or "block-causal:32"; 0 or 1; the
            text of the token. None = as they say.
        force: replace the artifact at `out`, once the new one is whole.
        progress: told of a download in bytes, of measuring in passes, of calibrating in layers, of exporting in bytes.

    Raises:
        InvalidOption: an option has no such value, contradicts another, or does not fit the checkpoint.
        CheckpointNotFound, CheckpointError, HubError: the checkpoint is not there, is damaged, or cannot be fetched.
        OutputExists, OutputForeign, OutputInsideCheckpoint, OutputBusy, NotWritable: nothing can be written at `out`.
        NotEnoughDisk, NotEnoughMemory: known before anything is written.
        BudgetOutOfRange, MeasurementsUnfit: `bits` cannot be met, or `sensitivity` is of another checkpoint.
        UnreadableData, NoData: there is no text in `calibration_data`.
        MissingExtra: the libraries that export are not installed.
    """
    out = Path(out)
    for option, value in (("calibration_data", calibration_data), ("calibration_sequences", calibration_sequences)):
        if value is not None and not calibrate:
            raise InvalidOption(option, value, "belongs to --calibrate")
    _check_budget(bits, sensitivity, scheme, target, is_grouped=block_size is not None or symmetric is not None)

    def recipe_for(layers: int) -> Recipe:
        return Recipe.for_scheme(scheme, target=target, block_size=block_size, symmetric=symmetric, layers=layers)

    recipe_for(1)  # refuses bad options before a checkpoint is downloaded
    name, texts = _read(calibration_data)
    opened = open_checkpoint(
        checkpoint, "Exporting a checkpoint", attention=attention, shift=shift, mask_token=mask_token, progress=progress
    )

    from dream_edge_export.export import export as write

    recipe, chosen_by = recipe_for(opened.config.num_hidden_layers), None
    if bits is not None:
        recipe, chosen_by = _spend(bits, opened, sensitivity, out, force=force, progress=progress)
    return write(
        opened,
        out,
        recipe,
        calibration=_calibration(opened, name, texts, calibration_sequences) if calibrate else None,
        force=force,
        source=source(opened.path),
        chosen_by=chosen_by,
        progress=progress,
    )


def _check_budget(
    bits: float | None, sensitivity: str | Path | None, scheme: str, target: str, *, is_grouped: bool
) -> None:
    if bits is None:
        if sensitivity is not None:
            wrong = "says where to spend bits: give their number with --bits"
            raise InvalidOption("sensitivity", str(sensitivity), wrong)
        return
    Real(0, 32, open_low=True).convert("bits", bits)  # what can be met is known after measuring
    if scheme != "mixed":
        raise InvalidOption("bits", bits, f"belongs to mixed; {scheme} has a size of its own")
    if target != "cpu":
        raise InvalidOption("bits", bits, "is spent by what processors make of each format: use --target cpu")
    if is_grouped:
        raise InvalidOption("bits", bits, "chooses groups by measurement: leave --block-size and --symmetric out")


def _spend(
    bits: float, checkpoint: Checkpoint, file: str | Path | None, out: Path, *, force: bool, progress: OnProgress
) -> tuple[Recipe, Mapping[str, Any]]:
    """The mixed recipe by measurement, and its origin for the manifest."""
    from dream_edge_export.checkpoint.provenance import fingerprint
    from dream_edge_export.output.staging import resolve_goal
    from dream_edge_export.plan import check_output

    from .quality.errors import MeasurementsUnfit
    from .quality.sensitivity.budget import budget_recipe
    from .quality.sensitivity.effects import Sensitivity
    from .quality.sensitivity.measure import sensitivity

    check_output(checkpoint, resolve_goal(out), force=force)  # now, not after hours of measuring
    if file is None:
        path = out.absolute().with_name(f"{out.name}.sensitivity.json")
        _log.info("Measuring first which matrices matter, kept in %s", path)
        found = sensitivity(checkpoint.path, out=path, **checkpoint.stated.to_dict(), progress=progress)
    else:
        path, found = Path(file), Sensitivity.read(Path(file))
        if found.model != fingerprint(checkpoint):
            raise MeasurementsUnfit(path, f"it is of another checkpoint than {checkpoint.path}")
    recipe, chosen_by = budget_recipe(found, checkpoint.config, bits, path)
    _log.info("The single losses of the formats chosen add up to a KL of %g", chosen_by["expected_kl"])
    return recipe, chosen_by


def _read(data: str | Path | Sequence[Text] | None) -> tuple[str, Sequence[Text] | None]:
    """Texts to calibrate on, and the name by which the manifest remembers them."""
    if not isinstance(data, str | Path):
        return "given texts", data
    file = Path(data)
    name = file.name if file.name.isprintable() else ascii(file.name)
    return name[-100:], read_texts(file)


def _calibration(
    checkpoint: Checkpoint, name: str, texts: Sequence[Text] | None, sequences: int | None
) -> CalibrationSet:
    from .quality.texts.masking import CALIBRATED, calibration_set

    return calibration_set(checkpoint, data=texts, name=name, sequences=CALIBRATED if sequences is None else sequences)

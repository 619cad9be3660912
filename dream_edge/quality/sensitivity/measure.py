"""Measure sensitivities: the passes that it takes, logged before they start, and kept as they are made."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.recipe import WeightFormat
from dream_edge_runtime.format.tensors import matrix_shapes
from dream_edge_runtime.progress import Meter, OnProgress, silent
from dream_edge_runtime.units import duration, size

from ...models import open_checkpoint
from ..errors import MeasurementsUnfit
from ..measure.estimates import mean_error
from ..texts.masking import MaskedPassage, mask_texts
from ..texts.read import Text, Texts, gather_texts, training_texts
from .effects import Effect, Sensitivity, format_name, list_changes, name_formats, parse_format

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.quantize.sensitivity_passes import SensitivityPlan

FORMATS = ("int4-128", "int4-32", "int8-128")
SEQUENCES = 32
LONGEST = 128
SUBSETS = 8

_log = logging.getLogger(__name__)


def sensitivity(
    checkpoint: str | Path,
    *,
    formats: Sequence[str] = FORMATS,
    out: str | Path | None = None,
    data: Texts | None = None,
    sequences: int = SEQUENCES,
    longest: int = LONGEST,
    seed: int = 0,
    attention: str | None = None,
    shift: int | None = None,
    mask_token: str | None = None,
    progress: OnProgress = silent,
) -> Sensitivity:
    """Measure which matrices matter: what `dream-edge sensitivity` calls.

    Every matrix and every layer is rounded alone, all others staying exact, and the change of the predictions is
    measured as KL divergence. `dream_edge.export(..., bits=..., sensitivity=FILE)` spends its bits by the result. One
    layer is in memory at a time. How much work it is going to be is logged (level INFO).

    Args:
        checkpoint: its directory, its name on a hub, or "tiny".
        formats: to try: "int4-N", "int8-N", "nf4-N" (in groups of N), "int8", "fp16".
        out: a JSON file to keep what is measured; the same call resumes there, or adds formats.
        data: texts to mask, or files of them, other than those of a comparison; None = built-in ones.
        sequences: masked texts to measure on.
        longest: tokens of a text at most.
        seed: for the texts and their masks.
        attention, shift, mask_token: what the checkpoint's files leave open: "full" or "block-causal:32"; 0 or 1; the
            text of the token. None = as they say.
        progress: told of a download in bytes, and of measuring in passes.

    Raises:
        InvalidOption: a format is none of these, or does not fit the checkpoint.
        MeasurementsUnfit: `out` holds something else, or is of another checkpoint, other texts or another seed.
        NotWritable: `out` cannot be written.
        CheckpointError, CheckpointNotFound, HubError: the checkpoint is damaged, not there, or cannot be fetched.
        NoData, UnreadableData: there is no text.
        MissingExtra: PyTorch is not installed.
    """
    wanted = [parse_format(name.strip()) for name in formats]
    path = None if out is None else Path(out)
    opened = open_checkpoint(
        checkpoint,
        "Measuring sensitivities",
        attention=attention,
        shift=shift,
        mask_token=mask_token,
        progress=progress,
    )
    known = Sensitivity.read(path) if path is not None and path.exists() else None
    texts = None if data is None else gather_texts(data)
    masked = recipe_passages(opened, data=texts, sequences=sequences, longest=longest, seed=seed)
    work = plan_measuring(opened, masked, wanted, seed=seed, known=known)
    if path is not None and known is not None and work.known is not known:
        raise MeasurementsUnfit(path, "it is of another checkpoint, other texts or another seed")
    _announce(work)
    found = work.known
    if path is not None:
        found.write(path)  # now, not after the first hour, it is seen whether it can be written
    for found in work.run(progress):
        if path is not None:
            found.write(path)
    return found


def _announce(work: Measuring) -> None:
    plan = work.plan
    done = f"; {len(work.known.effects)} are known" if work.known.effects else ""
    _log.info(
        "%d changes to measure%s: the work of %.0f passes over %d sequences of %d tokens together; "
        "it takes %s of memory and about %s",
        len(plan.variants),
        done,
        plan.passes,
        len(plan.sequences),
        sum(len(each.ids) for each in plan.sequences),
        size(plan.memory),
        duration(plan.seconds()),
    )


@dataclass(frozen=True)
class Measuring:
    """What is left to measure.

    Attributes:
        known: what was measured before, of the same checkpoint on the same sequences.
        plan: the passes to make, with their number and the memory they take.
    """

    known: Sensitivity
    plan: SensitivityPlan

    def run(self, progress: OnProgress = silent) -> Iterator[Sensitivity]:
        """All that is known, again and again as it grows. Raises CheckpointError."""
        from dream_edge_export.quantize.sensitivity_passes import measure_divergences

        known = self.known
        if not self.plan.variants:
            return
        passes = Meter(progress, "measuring", self.plan.passes, "passes")
        for wave in measure_divergences(self.plan, passes.reach):
            found = [
                Effect(name_formats(self.plan.variants[index]), float(np.concatenate(kl).mean()), mean_error(kl))
                for index, kl in wave
            ]
            known = replace(known, effects=(*known.effects, *found))
            yield known


def plan_measuring(
    checkpoint: Checkpoint,
    masked: Sequence[MaskedPassage],
    formats: Sequence[WeightFormat],
    *,
    subsets: int = SUBSETS,
    seed: int = 0,
    known: Sensitivity | None = None,
) -> Measuring:
    """Prepare to measure every matrix and layer of `checkpoint` in each of `formats`, on `masked` sequences.

    Nothing is computed yet. Sequences to choose a recipe by are not those that the artifact is judged by.

    Args:
        formats: as a processor multiplies them.
        subsets: random sets of matrices, to see whether losses add up.
        seed: of these sets.
        known: what an earlier call measured; of the same checkpoint and sequences it is kept, otherwise ignored.

    Raises InvalidOption.
    """
    from dream_edge_export.checkpoint.provenance import fingerprint
    from dream_edge_export.quantize.sensitivity_passes import MaskedSequence, SensitivityPlan

    config = checkpoint.config
    if not formats:
        raise InvalidOption("formats", "", "must name at least one")
    for format_ in formats:
        if format_.kind == "nf4" and any(inputs % format_.block_size for _, inputs in matrix_shapes(config).values()):
            raise InvalidOption(
                "formats", format_name(format_), "has groups that do not divide this checkpoint's widths"
            )
    model = fingerprint(checkpoint)
    texts = hashlib.sha256(b"".join(each.canvas.tobytes() + each.positions.tobytes() for each in masked)).hexdigest()
    if known is None or (known.model, known.passages) != (model, texts):
        known = Sensitivity(
            model=model,
            passages=texts,
            checkpoint=checkpoint.path.resolve().name,
            layers=config.num_hidden_layers,
            sequences=len(masked),
            positions=sum(len(each.positions) for each in masked),
            seed=seed,
        )
    done = {frozenset(effect.change.items()) for effect in known.effects}
    wanted = list_changes(config, formats, subsets=subsets, seed=seed)
    left = [change for change in wanted if frozenset(name_formats(change).items()) not in done]
    sequences = [MaskedSequence(each.canvas, each.asked_rows(config)) for each in masked]
    return Measuring(known, SensitivityPlan(checkpoint, sequences, left))


def recipe_passages(
    checkpoint: Checkpoint,
    *,
    data: Sequence[Text] | None = None,
    sequences: int = SEQUENCES,
    longest: int = LONGEST,
    seed: int = 0,
) -> tuple[MaskedPassage, ...]:
    """Mask passages of `data`, or of `training_texts`, to choose a recipe by. Raises what `mask_texts` does."""
    texts = training_texts(checkpoint) if data is None else data
    return mask_texts(checkpoint, texts, sequences=sequences, longest=longest, seed=seed)[1]

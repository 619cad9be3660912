"""Measuring sensitivities: the passes that it takes, said before they start, and kept as they are made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dream_edge_runtime.errors import InvalidOption, MissingExtra
from dream_edge_runtime.format.recipe import WeightFormat
from dream_edge_runtime.format.tensors import matrix_shapes
from dream_edge_runtime.text.tokenizer import Tokenizer

from ...models import TINY, bundled
from ..measure.estimates import mean_error
from ..texts.calibration import calibration_texts
from ..texts.masking import MaskedPassage, mask_passages
from ..texts.read import Text, passages
from ..texts.tiny import tiny_texts
from .effects import Effect, Sensitivity, changes, named
from .formats import name_of

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_export.reference.sensitivity_passes import PerturbedPlan

SEQUENCES = 32
LONGEST = 128
SUBSETS = 8


@dataclass(frozen=True)
class Measuring:
    """What is left to measure.

    Attributes:
        known: what was measured before, of the same checkpoint on the same sequences.
        plan: the passes to make, with their number and the memory they take.
    """

    known: Sensitivity
    plan: PerturbedPlan

    def run(self, progress: Callable[[float], None] = lambda _: None) -> Iterator[Sensitivity]:
        """All that is known, again and again as it grows; `progress` is called with the passes done.

        Raises: CheckpointError.
        """
        from dream_edge_export.reference.sensitivity_passes import divergences

        known = self.known
        for wave in divergences(self.plan, progress) if self.plan.variants else ():
            known = known.with_effects(
                Effect(named(self.plan.variants[index]), float(np.concatenate(kl).mean()), mean_error(kl))
                for index, kl in wave
            )
            yield known


def measuring(
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

    Raises: InvalidOption, MissingExtra.
    """
    try:
        from dream_edge_export.checkpoint.provenance import fingerprint
        from dream_edge_export.reference.batches import Canvas
        from dream_edge_export.reference.sensitivity_passes import PerturbedPlan
    except ImportError:
        raise MissingExtra("Measuring sensitivities", "export") from None
    config = checkpoint.config
    if not formats:
        raise InvalidOption("formats", "", "must name at least one")
    for format_ in formats:
        if format_.kind == "nf4" and any(inputs % format_.block_size for _, inputs in matrix_shapes(config).values()):
            raise InvalidOption("formats", name_of(format_), "has groups that do not divide this checkpoint's widths")
    model, texts = fingerprint(checkpoint), _passages_digest(masked)
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
    wanted = changes(config, formats, subsets=subsets, seed=seed)
    left = [change for change in wanted if frozenset(named(change).items()) not in done]
    canvases = [Canvas(each.canvas, np.maximum(each.positions - config.shift, 0)) for each in masked]
    return Measuring(known, PerturbedPlan(checkpoint, canvases, left))


def recipe_passages(
    checkpoint: Checkpoint,
    *,
    data: Sequence[Text] | None = None,
    sequences: int = SEQUENCES,
    longest: int = LONGEST,
    seed: int = 0,
) -> list[MaskedPassage]:
    """Masked passages to choose a recipe by, other than those that `compare` masks.

    Args:
        data: texts; None = training cases for the bundled tiny model, those for calibrations for others.

    Raises: NoData, MissingExtra, PromptError, CheckpointError.
    """
    try:
        from dream_edge_export.checkpoint.tokenizer import convert_tokenizer
    except ImportError:
        raise MissingExtra("Measuring sensitivities", "export") from None
    if data is None:
        data = _texts(checkpoint, sequences, seed)
    tokenizer = Tokenizer.from_bytes(convert_tokenizer(checkpoint.path, checkpoint.config), source=checkpoint.path)
    pieces = passages(data, tokenizer, min(longest, checkpoint.config.context))
    return list(mask_passages(pieces, checkpoint.config.mask_token_id, count=sequences, bins=1, seed=seed))


def _texts(checkpoint: Checkpoint, sequences: int, seed: int) -> list[Text]:
    tiny = bundled(TINY)
    if tiny.is_dir() and checkpoint.path.resolve() == tiny.resolve():
        return tiny_texts(seed, -(-sequences // 4), held_out=False)
    return calibration_texts()


def _passages_digest(masked: Sequence[MaskedPassage]) -> str:
    digest = hashlib.sha256()
    for each in masked:
        digest.update(each.canvas.tobytes() + each.positions.tobytes())
    return digest.hexdigest()

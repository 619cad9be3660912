"""What is kept with reference predictions: the noise floor, and the reference's own trajectories."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.progress import OnProgress, silent
from dream_edge_runtime.text.tokenizer import Tokenizer
from dream_edge_runtime.units import size

from .reference.base import Base
from .reference.noise import noise_floor, with_noise_floor
from .texts.read import Passage, Text, default_texts, passages
from .trajectory.follow import is_held, trajectories, with_trajectories
from .trajectory.path import draw_openings, official
from .trajectory.record import pass_count

if TYPE_CHECKING:
    from dream_edge_export.checkpoint.checkpoint import Checkpoint

TEXTS = 32
NEW_TOKENS = 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What is wanted; empty or None where nothing was said.

    noise_floor: the reference in bf16; None = with new predictions.
    trajectory: the reference's decoding; None = with new predictions of a network that is small.
    algorithms, steps, texts, new_tokens: how it decodes: each of `algorithms` with each of `steps`, from `texts` texts,
        at most `new_tokens` tokens.
    """

    noise_floor: bool | None = None
    trajectory: bool | None = None
    algorithms: Sequence[str] = ()
    steps: Sequence[int] = ()
    texts: int | None = None
    new_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.trajectory is False:
            for name, value in self._how():
                raise InvalidOption(name, value, "says how to measure the trajectories that are left out")

    def add(
        self,
        base: Base,
        checkpoint: Checkpoint | None,
        *,
        is_new: bool,
        tokenizer: Tokenizer,
        data: Sequence[Text] | None,
        progress: OnProgress = silent,
    ) -> Base:
        """`base` with what is wanted and not kept in it yet; trajectories begin with openings of `data`.

        Raises InvalidOption where `checkpoint` is None and needed, and what `with_trajectories` does.
        """
        lacks_noise = self.noise_floor is not False and noise_floor(base) is None
        lacks_trajectories = self.trajectory is True and not trajectories(base)
        if checkpoint is None:
            lacking = [("noise_floor", True)] * (self.noise_floor is True and lacks_noise) + self._how()
            for name, value in lacking + [("trajectory", True)] * lacks_trajectories:
                raise InvalidOption(name, value, "needs the checkpoint too: name it with --reference")
            return base
        if lacks_noise and (self.noise_floor or is_new):
            base = with_noise_floor(base, checkpoint, progress=progress)
        if self._how() or lacks_trajectories or (is_new and self.trajectory is None and is_held(checkpoint)):
            base = self._add_trajectories(base, checkpoint, tokenizer, data, progress)
        return base

    def _how(self) -> list[tuple[str, object]]:
        """The options given of how the reference decodes."""
        names = ("algorithms", "steps", "texts", "new_tokens")
        return [(name, value) for name in names if (value := getattr(self, name))]

    def _add_trajectories(
        self,
        base: Base,
        checkpoint: Checkpoint,
        tokenizer: Tokenizer,
        data: Sequence[Text] | None,
        progress: OnProgress,
    ) -> Base:
        longest, seed = min(base.evaluation.longest, base.config.context), base.evaluation.seed
        begun = draw_openings(
            passages(default_texts(checkpoint) if data is None else data, tokenizer, longest),
            count=self.texts or TEXTS,
            new_tokens=self.new_tokens or NEW_TOKENS,
            longest=longest,
            seed=seed,
        )
        defaults = GenerationConfig.from_checkpoint(checkpoint.generation_defaults, checkpoint.path, checkpoint.config)
        configs = [
            official(defaults, algorithm=algorithm, steps=steps, seed=seed)
            for algorithm in self.algorithms or (defaults.algorithm,)
            for steps in self.steps or (None,)
        ]
        kept = trajectories(base)
        if [each.config for each in kept] == configs and all(_visible(each.begun) == _visible(begun) for each in kept):
            return base
        if not is_held(checkpoint):
            passes = sum(pass_count(config, begun, base.config) for config in configs)
            whole = size(sum(checkpoint.nbytes(name) for name in checkpoint.names))
            _log.info(
                "Trajectories of %d texts: %d passes, each over the whole checkpoint, %s", len(begun), passes, whole
            )
        return with_trajectories(base, checkpoint, begun, configs, progress=progress)


def _visible(begun: Sequence[Passage]) -> list[tuple[list[int], int]]:
    """Of each opening what is visible, and how much is to be filled."""
    return [(each.ids[: each.start].tolist(), each.maskable) for each in begun]

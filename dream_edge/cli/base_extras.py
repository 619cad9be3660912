"""What a base keeps of the reference besides its predictions: its noise floor, its trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dream_edge_runtime.units import size

from .terminal.io import note
from .terminal.progress import progress

if TYPE_CHECKING:
    from dream_edge.quality import Base
    from dream_edge.quality.texts.read import Passage
    from dream_edge_export.checkpoint.checkpoint import Checkpoint
    from dream_edge_runtime.generation.config import GenerationConfig
    from dream_edge_runtime.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class AskedExtras:
    """What was asked for on the command line; None where nothing was."""

    noise_floor: bool | None
    trajectory: bool | None
    algorithms: Sequence[str]
    steps: Sequence[int]
    texts: int | None
    new_tokens: int | None

    def __post_init__(self) -> None:
        """Raises typer.BadParameter where options contradict each other."""
        if self.trajectory is False and self.how:
            raise typer.BadParameter("says how to measure what --no-trajectory leaves out", param_hint=self.how[0])

    @property
    def how(self) -> list[str]:
        """The options that say how a trajectory is made."""
        given = {
            "--algorithm": bool(self.algorithms),
            "--steps": bool(self.steps),
            "--texts": self.texts is not None,
            "--new-tokens": self.new_tokens is not None,
        }
        return [name for name, is_given in given.items() if is_given]


def with_extras(
    base: Base,
    checkpoint: Checkpoint | None,
    asked: AskedExtras,
    *,
    is_new: bool,
    tokenizer: Tokenizer,
    data: Sequence[Path],
) -> Base:
    """`base` with what was asked for; where nothing was, what is cheap enough for a base that `is_new`."""
    from dream_edge.quality.reference.noise import noise_floor, with_noise_floor
    from dream_edge.quality.trajectory.follow import is_held, trajectories

    if checkpoint is None:
        wanted = ["--noise-floor"] if asked.noise_floor and noise_floor(base) is None else asked.how
        if wanted or (asked.trajectory and not trajectories(base)):
            hint = (wanted or ["--trajectory"])[0]
            raise typer.BadParameter("needs the checkpoint too: name it with --reference", param_hint=hint)
        return base
    if noise_floor(base) is None and (asked.noise_floor or (asked.noise_floor is None and is_new)):
        with progress("Noise floor", 1, lambda done: f"{done:.0%}") as advance:
            base = with_noise_floor(base, checkpoint, progress=lambda done, total: advance(done / total))
    cheap = is_new and asked.trajectory is None and is_held(checkpoint)
    if asked.how or cheap or (asked.trajectory and not trajectories(base)):
        base = _with_trajectories(base, checkpoint, asked, tokenizer, data)
    return base


def _with_trajectories(
    base: Base, checkpoint: Checkpoint, asked: AskedExtras, tokenizer: Tokenizer, data: Sequence[Path]
) -> Base:
    from dream_edge.quality import read_texts
    from dream_edge.quality.reference.build import default_texts
    from dream_edge.quality.texts.read import passages
    from dream_edge.quality.trajectory.follow import NEW_TOKENS, TEXTS, is_held, trajectories, with_trajectories
    from dream_edge.quality.trajectory.record import openings, pass_count

    texts = [text for path in data for text in read_texts(path)] if data else default_texts(checkpoint)
    longest = min(base.evaluation.longest, base.config.context)
    begun = openings(
        passages(texts, tokenizer, longest),
        count=asked.texts or TEXTS,
        new_tokens=asked.new_tokens or NEW_TOKENS,
        longest=longest,
        seed=base.evaluation.seed,
    )
    configs = _configs(checkpoint, asked, seed=base.evaluation.seed)
    kept = trajectories(base)
    if [each.config for each in kept] == configs and all(_same(each.begun, begun) for each in kept):
        return base
    passes = sum(pass_count(config, begun, base.config.vocab_size) for config in configs)
    if not is_held(checkpoint):
        each = sum(checkpoint.nbytes(name) for name in checkpoint.names)
        note(f"Trajectories of {len(begun)} texts: {passes} passes, each over the whole checkpoint, {size(each)}")
    with progress("Trajectory of the reference, passes", passes, lambda done: f"{done:.0f}") as advance:
        return with_trajectories(base, checkpoint, begun, configs, progress=lambda done, _: advance(done))


def _configs(checkpoint: Checkpoint, asked: AskedExtras, seed: int) -> list[GenerationConfig]:
    """The official loop with the checkpoint's defaults, by each algorithm and number of steps that was asked for."""
    from dream_edge.quality.trajectory.record import official
    from dream_edge_runtime.generation.config import GenerationConfig

    defaults = GenerationConfig.from_checkpoint(checkpoint.generation_defaults, checkpoint.path)
    algorithms = asked.algorithms or (defaults.algorithm,)
    return [
        official(defaults, algorithm=algorithm, steps=steps, seed=seed)
        for algorithm in algorithms
        for steps in (asked.steps or (None,))
    ]


def _same(kept: Sequence[Passage], begun: Sequence[Passage]) -> bool:
    """Whether the same is visible, and as much is to be filled."""
    return [(each.ids[: each.start].tolist(), each.maskable) for each in kept] == [
        (each.ids[: each.start].tolist(), each.maskable) for each in begun
    ]

"""The figures of an artifact along the reference's trajectory, and of both decoding freely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dream_edge_runtime.arrays import BoolArray
from dream_edge_runtime.generation.results import CanvasReader
from dream_edge_runtime.text.chat import end_ids
from dream_edge_runtime.text.tokenizer import Tokenizer

from ..measure.differences import DoubleArray
from ..measure.estimates import mean_error
from .path import Replay, Trajectory, Unmasking

PARTS = 5
"""Into how many equal parts the steps, and the text, are divided to say where commitments flip."""
SAMPLES = 6


@dataclass(frozen=True)
class Share:
    """A share of commitments, positions or texts, and its standard error; sequences are the units."""

    value: float
    error: float
    count: int
    """How many commitments, positions or texts it is a share of."""


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Shares of the reference's commitments that an artifact, shown the same canvas, would not have made.

    `token`: it finds another token most probable at that position. `position`: it would have settled another position
    at that step; None where positions are drawn by chance (`origin`). `any`: one of the two.
    """

    token: Share
    position: Share | None
    any: Share


@dataclass(frozen=True)
class FlipsAt:
    """Flips of the commitments in one part: of the steps, or of the text; `low` and `high` are shares of it."""

    low: float
    high: float
    flips: Flips


@dataclass(frozen=True, kw_only=True)
class FreeRun:
    """Both networks fill the same canvases by themselves.

    same_tokens: share of the filled positions with the same token at the end.
    same_texts: share of canvases whose texts, as a user reads them (up to the end of the turn), are the same.
    diverged: share of canvases where, at some step, something else was settled.
    first_divergence: the step (from 1) of the first difference, for each canvas; None where both are the same.
    median_divergence: of those; None where at least half of the canvases never diverge.
    divergence_histogram: canvases by the part of the steps in which they diverged first, in `PARTS` equal parts.
    """

    same_tokens: Share
    same_texts: Share
    diverged: Share
    first_divergence: tuple[int | None, ...]
    median_divergence: float | None
    divergence_histogram: tuple[int, ...]


@dataclass(frozen=True)
class SampleTexts:
    """What both wrote after the same opening; `diverged` is the first step (from 1) with a difference, or None."""

    opening: str
    reference: str
    artifact: str
    diverged: int | None


@dataclass(frozen=True, kw_only=True)
class TrajectoryFigures:
    """An artifact against the reference, on the way from masks to text, for one algorithm and number of steps.

    `steps` of None is one a token. `by_step` divides the steps, `by_position` the text that was filled; a part without
    commitments is left out.
    """

    algorithm: str
    steps: int | None
    sequences: int
    flips: Flips
    by_step: tuple[FlipsAt, ...]
    by_position: tuple[FlipsAt, ...]
    free_run: FreeRun
    samples: tuple[SampleTexts, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def along(
    reference: Trajectory, replays: Sequence[Replay], artifact: Trajectory, tokenizer: Tokenizer, eos: int
) -> TrajectoryFigures:
    """What `replay` found along the `reference`'s paths, and how the `artifact`'s own paths differ from them.

    Both trajectories begin with the same canvases; `eos` is the token that ends a text.
    """
    progress = [path.steps / reference.steps(path) for path in reference.paths]
    places = [(path.positions - path.start) / path.length for path in reference.paths]
    free, samples = _free_run(reference, artifact, tokenizer, eos)
    return TrajectoryFigures(
        algorithm=reference.config.algorithm,
        steps=reference.config.steps,
        sequences=len(reference.paths),
        flips=_flips(replays, [np.ones(len(path.steps), bool) for path in reference.paths]),
        by_step=_by_part(replays, progress),
        by_position=_by_part(replays, places),
        free_run=free,
        samples=samples,
    )


def _by_part(replays: Sequence[Replay], places: Sequence[DoubleArray]) -> tuple[FlipsAt, ...]:
    """Flips by where they are: `places` (0 to 1, exclusive) of the commitments of each path."""
    found = []
    for part in range(PARTS):
        members = [(place * PARTS).astype(np.int64) == part for place in places]
        if any(member.any() for member in members):
            found.append(FlipsAt(part / PARTS, (part + 1) / PARTS, _flips(replays, members)))
    return tuple(found)


def _flips(replays: Sequence[Replay], members: Sequence[BoolArray]) -> Flips:
    """Of the commitments that are `members`, path by path."""
    pairs = [*zip(replays, members, strict=True)]
    token = [replay.other_token[member] for replay, member in pairs]
    moved = [replay.other_position[member] for replay, member in pairs if replay.other_position is not None]
    either = [one | other for one, other in zip(token, moved, strict=True)] if moved else token
    return Flips(token=_share(token), position=_share(moved) if moved else None, any=_share(either))


def _share(sequences: Sequence[BoolArray]) -> Share:
    used = [part.astype(np.float64) for part in sequences if part.size]
    return Share(float(np.concatenate(used).mean()), mean_error(used), sum(map(len, used)))


def _free_run(
    reference: Trajectory, artifact: Trajectory, tokenizer: Tokenizer, eos: int
) -> tuple[FreeRun, tuple[SampleTexts, ...]]:
    pairs = [*zip(reference.paths, artifact.paths, strict=True)]
    ends = end_ids(tokenizer, eos)
    texts = [(_text(ours, tokenizer, ends), _text(theirs, tokenizer, ends)) for ours, theirs in pairs]
    first = [first_divergence(ours, theirs) for ours, theirs in pairs]
    parts = [
        (step - 1) * PARTS // reference.steps(path)
        for step, path in zip(first, reference.paths, strict=True)
        if step is not None
    ]
    median = float(np.median([np.inf if step is None else step for step in first]))
    free = FreeRun(
        same_tokens=_share([ours.final[ours.start :] == theirs.final[theirs.start :] for ours, theirs in pairs]),
        same_texts=_share([np.array([ours == theirs]) for ours, theirs in texts]),
        diverged=_share([np.array([step is not None]) for step in first]),
        first_divergence=tuple(first),
        median_divergence=median if np.isfinite(median) else None,
        divergence_histogram=tuple(parts.count(part) for part in range(PARTS)),
    )
    return free, _samples(reference, texts, first, tokenizer)


def first_divergence(reference: Unmasking, artifact: Unmasking) -> int | None:
    """The first step (from 1) at which one of two paths settled what the other did not; None where they are one."""
    ours, theirs = (
        set(zip(path.positions.tolist(), path.tokens.tolist(), path.steps.tolist(), strict=True))
        for path in (reference, artifact)
    )
    return min((step + 1 for _, _, step in ours ^ theirs), default=None)


def _text(path: Unmasking, tokenizer: Tokenizer, ends: frozenset[int]) -> str:
    return CanvasReader(tokenizer, path.start, ends).text(path.final, np.zeros(len(path.ids), bool))


def _samples(
    reference: Trajectory, texts: Sequence[tuple[str, str]], first: Sequence[int | None], tokenizer: Tokenizer
) -> tuple[SampleTexts, ...]:
    """Some of the texts, if possible half of them such that differ, in the order of the paths."""
    differing = [index for index, (ours, theirs) in enumerate(texts) if ours != theirs]
    alike = [index for index, (ours, theirs) in enumerate(texts) if ours == theirs]
    few = min(len(differing), max(SAMPLES // 2, SAMPLES - len(alike)))
    chosen = sorted([*differing[:few], *alike[: SAMPLES - few]])
    begun = reference.begun
    return tuple(
        SampleTexts(tokenizer.decode(begun[index].ids[: begun[index].start]), *texts[index], first[index])
        for index in chosen
    )

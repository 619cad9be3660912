"""The way from masks to text, as data: which token was settled where, at which step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.generation.config import GenerationConfig

from ..errors import NoData
from ..texts.read import Passage


@dataclass(frozen=True)
class Unmasking:
    """How one canvas was filled.

    Attributes:
        ids: [length] the canvas before the first step: the opening, then masks.
        start: where the masks begin.
        positions, tokens, steps: [commitments] which position became which token at which step (from 0), in the order
            in which they were settled.
        probability: [commitments] of the tokens, as the network that settled them saw it.
    """

    ids: IntArray
    start: int
    positions: IntArray
    tokens: IntArray
    steps: IntArray
    probability: FloatArray

    @property
    def length(self) -> int:
        """How many positions are filled."""
        return len(self.ids) - self.start

    def canvas(self, step: int) -> IntArray:
        """The ids before `step`."""
        ids, settled = self.ids.copy(), self.steps < step
        ids[self.positions[settled]] = self.tokens[settled]
        return ids

    @property
    def final(self) -> IntArray:
        """The ids at the end."""
        return self.canvas(int(self.steps.max(initial=-1)) + 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "ids": self.ids.tolist(),
            "start": self.start,
            "positions": self.positions.tolist(),
            "tokens": self.tokens.tolist(),
            "steps": self.steps.tolist(),
            "probability": [round(value, 6) for value in self.probability.tolist()],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Unmasking:
        """The inverse of `to_dict`; ValueError, TypeError or KeyError unless a loop could have made it."""
        ids, positions, tokens, steps = (
            np.array(document[name], np.int64) for name in ("ids", "positions", "tokens", "steps")
        )
        start, probability = document["start"], np.array(document["probability"], np.float32)
        shapes = {each.shape for each in (positions, tokens, steps, probability)}
        if ids.ndim != 1 or shapes != {(len(positions),)}:
            raise ValueError("its commitments are not lists of one length")
        if type(start) is not int or not 0 < start < len(ids) or (steps < 0).any():
            raise ValueError("its canvas has nothing to see or nothing to fill")
        if len({*positions.tolist()} & {*range(start, len(ids))}) != len(positions):
            raise ValueError("a position is not masked, or settled twice")
        return cls(ids, start, positions, tokens, steps, probability)


@dataclass(frozen=True)
class Trajectory:
    """The paths of several canvases, all filled by the same settings: the official loop, greedy."""

    config: GenerationConfig
    paths: tuple[Unmasking, ...]

    @property
    def begun(self) -> list[Passage]:
        """The canvases before the first step: what comes after `start` is masked."""
        return [Passage(path.ids, path.start) for path in self.paths]

    def steps(self, path: Unmasking) -> int:
        """Denoising steps of `path`: those of the configuration, or one a token; of a block-causal network all made."""
        return max(self.config.steps or path.length, int(path.steps.max(initial=0)) + 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"config": asdict(self.config), "paths": [path.to_dict() for path in self.paths]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Trajectory:
        """The inverse of `to_dict`; KeyError, TypeError or ValueError where something else wrote it."""
        return cls(GenerationConfig(**document["config"]), tuple(map(Unmasking.from_dict, document["paths"])))


@dataclass(frozen=True)
class Replay:
    """What an artifact would have settled on each canvas of one path.

    Attributes:
        other_token: [commitments] whether it finds another token most probable where the reference settled one.
        other_position: [commitments] whether it would not have settled that position at that step; None where the
            algorithm draws positions by chance (`origin`), whatever the network thinks.
    """

    other_token: BoolArray
    other_position: BoolArray | None


def official(defaults: GenerationConfig, *, algorithm: str, steps: int | None, seed: int = 0) -> GenerationConfig:
    """The official loop with a checkpoint's `defaults`, greedy, so that only the networks differ.

    Block-causal networks follow the schedule in each block too, and reveal nothing beyond it.
    """
    return defaults.replace(algorithm=algorithm, steps=steps, temperature=0.0, seed=seed, reveal=None, threshold=None)


def draw_openings(
    passages: Sequence[Passage], *, count: int, new_tokens: int, longest: int, seed: int
) -> list[Passage]:
    """Up to `count` texts to be continued, drawn from `passages`: what comes after `start` is to be filled.

    The prompt of a text that has one stays visible, of another text the first half. At most `new_tokens` are filled,
    and at most `longest` positions are on a canvas: of a longer prompt the end is kept.

    Raises NoData where no passage has two tokens.
    """
    rng = np.random.default_rng(seed)
    usable = [each for each in passages if len(each.ids) > 1]
    if not usable:
        raise NoData("data", "no text has two tokens, one to see and one to fill")
    found = []
    for index in rng.permutation(len(usable))[:count]:
        passage = usable[index]
        start = passage.start or (len(passage.ids) + 1) // 2
        end = start + min(new_tokens, len(passage.ids) - start, longest - 1)
        begin = max(0, end - longest)
        found.append(Passage(passage.ids[begin:end], start - begin))
    return found

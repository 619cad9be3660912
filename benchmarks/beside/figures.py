"""What is measured of a program, put together over rounds, and what a text takes by it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

Figures = dict[str, float]
"""Name → seconds or bytes."""

LOAD, MEMORY, FILE = "load", "memory", "file"
STEP = "step"
"""One step of a text in a program that computes everything at every step, sampling included."""
TEXT = "text"


def pass_over(tokens: int) -> str:
    """All of so many positions computed and projected onto the vocabulary."""
    return f"pass over {tokens}"


def part_of(positions: int, canvas: int) -> str:
    """So many positions of a text computed; the keys and values of the others are remembered."""
    return f"{positions} of {canvas}"


@dataclass(frozen=True)
class Run:
    """One process of a program. Seconds and bytes."""

    load: float
    passes: list[float]
    """Full passes after the first one."""
    memory: int
    """The most that was resident."""
    steps: list[float] = field(default_factory=list)
    """The same passes with the sampling that follows them, where that was timed."""


@dataclass
class Samples:
    """Figures of one program, several of each."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, *values: float) -> None:
        self.values.setdefault(name, []).extend(values)

    def settled(self) -> Figures:
        """The median of each; of memory the highest."""
        return {
            name: max(values) if name == MEMORY else statistics.median(values) for name, values in self.values.items()
        }


@dataclass(frozen=True)
class Text:
    """A text, and how it is decoded: the passes are those of a program that reveals what is sure, as published."""

    prompt: int
    new: int
    block: int
    """Positions that are projected onto the vocabulary in a pass that computes everything."""
    tokens_per_pass: float
    mix: Mapping[int, float]
    """Positions computed in a pass → the share of the passes that compute so many. The shares make one."""

    @property
    def canvas(self) -> int:
        return self.prompt + self.new

    @property
    def passes(self) -> float:
        return self.new / self.tokens_per_pass

    @property
    def positions_per_pass(self) -> float:
        return sum(positions * share for positions, share in self.mix.items())

    def seconds(self, costs: Mapping[int, float]) -> float:
        """All passes of the text, by what those over some counts of positions cost."""
        return self.passes * sum(share * interpolate(costs, positions) for positions, share in self.mix.items())


def interpolate(costs: Mapping[int, float], positions: float) -> float:
    """Seconds of a pass over `positions`, on the straight line between the two measured counts around it.

    Below the least count that was measured, a pass is taken to cost what that one does.

    Raises:
        ValueError: more positions than were measured.
    """
    measured = sorted(costs.items())
    if positions > measured[-1][0]:
        raise ValueError(f"a pass over {positions} positions was not measured")
    if positions <= measured[0][0]:
        return measured[0][1]
    (low, at_low), (high, at_high) = next(pair for pair in pairwise(measured) if pair[0][0] < positions <= pair[1][0])
    return at_low + (at_high - at_low) * (positions - low) / (high - low)


def with_text(figures: Figures, text: Text, steps: int) -> Figures:
    """`figures` and what `text` takes: by the passes of its mix, or in `steps` equal steps."""
    costs = {
        count: figures[name] for count in range(text.canvas + 1) if (name := part_of(count, text.canvas)) in figures
    }
    if costs:
        return figures | {TEXT: text.seconds(costs)}
    return figures | {TEXT: steps * figures[STEP]} if STEP in figures else figures


def ratios(theirs: Figures, ours: Figures) -> Figures:
    """How many times theirs is ours."""
    return {name: value / ours[name] for name, value in theirs.items() if ours.get(name)}

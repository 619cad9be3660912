"""What is measured of a program, put together over rounds, and taken further: to more layers, to fewer passes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

Figures = dict[str, float]
"""Name → seconds or bytes."""

LOAD, MEMORY, FILE = "load", "memory", "file"
TEXT = "text"
"""A text at one token per pass, in the program's fastest way."""
UNCACHED_TEXT = "text without cache"


def pass_over(tokens: int) -> str:
    return f"pass over {tokens}"


def text_at(tokens_per_pass: float) -> str:
    return f"text at {tokens_per_pass:g} tokens per pass"


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


def extrapolated(measured: Mapping[int, Figures], layers: int) -> Figures:
    """Figures at `layers` layers from those at two counts: what is fixed, and what each layer adds.

    Raises:
        ValueError: not two counts.
    """
    if len(measured) != 2:
        raise ValueError("a line goes through two points")
    (few, at_few), (many, at_many) = sorted(measured.items())
    return {
        name: low + (at_many[name] - low) * (layers - few) / (many - few)
        for name, low in at_few.items()
        if name in at_many
    }


def with_expected(figures: Figures, new: int, block: int, tokens_per_pass: list[float]) -> Figures:
    """`figures` and the texts at other paces than one token per pass.

    A program without a cache has no way to reveal more tokens in a pass by itself, so it stays at one.
    """
    expected = {}
    for pace in tokens_per_pass:
        if TEXT in figures:
            seconds = figures[TEXT]
            if UNCACHED_TEXT in figures:
                seconds = cached_text(figures[UNCACHED_TEXT] / new, seconds, new, block, pace)
            expected[text_at(pace)] = seconds
    return figures | expected


def cached_text(full: float, total: float, tokens: int, block: int, tokens_per_pass: float) -> float:
    """Seconds for a text of `tokens` at another pace than the one token per pass at which it took `total`.

    Each block begins with a `full` pass; the others are faster, and only of them there are fewer.
    """
    blocks = -(-tokens // block)
    if tokens == blocks:
        return total
    cached = max(0.0, total - blocks * full) / (tokens - blocks)
    return blocks * full + max(0.0, tokens / tokens_per_pass - blocks) * cached


def ratios(theirs: Figures, ours: Figures) -> Figures:
    """How many times theirs is ours."""
    return {name: value / ours[name] for name, value in theirs.items() if ours.get(name)}

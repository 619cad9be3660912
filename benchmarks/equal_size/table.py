"""What is compared with what at equal size, and the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dream_edge.quality.measure.differences import Differences

from .evaluation import mean_of, paired
from .real_weights import Loss
from .subjects import OURS, Measured


@dataclass(frozen=True)
class Point:
    """A format in the plane of size and loss; `error` is the loss's standard error."""

    name: str
    family: str
    bits: float
    loss: float
    error: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """A peer against the best of ours that is no larger.

    Attributes:
        rival: ours; None where all of ours are larger.
        difference: mean KL of ours - theirs at the same masks, and its standard error.
    """

    peer: str
    rival: str | None
    difference: float
    error: float


def frontier(points: Sequence[Point]) -> list[Point]:
    """Those that no other is both smaller and better than, by size."""
    found: list[Point] = []
    for point in sorted(points, key=lambda each: (each.bits, each.loss)):
        if not found or point.loss < found[-1].loss:
            found.append(point)
    return found


def point(measured: Measured, of: Callable[[Measured], Sequence[Differences]]) -> Point:
    loss = mean_of([each.kl for each in of(measured)])
    return Point(measured.name, measured.family, measured.bits.weights, loss.mean, loss.error)


def verdicts(measured: Sequence[Measured], of: Callable[[Measured], Sequence[Differences]]) -> list[Verdict]:
    """Every peer against ours."""
    found = []
    for peer in sorted((each for each in measured if each.family != OURS), key=lambda each: each.bits.weights):
        fitting = [each for each in measured if each.family == OURS and each.bits.weights <= peer.bits.weights]
        if not fitting:
            found.append(Verdict(peer.name, None, float("nan"), float("nan")))
            continue
        rival = min(fitting, key=lambda each: mean_of([part.kl for part in of(each)]).mean)
        difference = paired(of(rival), of(peer))
        found.append(Verdict(peer.name, rival.name, difference.mean, difference.error))
    return found


def size_table(measured: Sequence[Measured]) -> str:
    """In Markdown, by size."""
    rows = ["| format | of | file | weights | body | KL, weights alone | KL, as computed | same-top |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    for each in sorted(measured, key=lambda each: each.bits.weights):
        alone, computed = (mean_of([part.kl for part in of]) for of in (each.weights, each.computed))
        same = np.concatenate([part.same_top for part in each.computed]).mean()
        rows.append(
            f"| {each.name} | {each.family} | {each.bits.file:.2f} | {each.bits.weights:.2f} | {each.bits.body:.2f} "
            f"| {alone.mean:.6f} ± {alone.error:.6f} | {computed.mean:.6f} ± {computed.error:.6f} | {same:.2%} |"
        )
    return "\n".join(rows)


def verdict_table(alone: Sequence[Verdict], computed: Sequence[Verdict]) -> str:
    """In Markdown: differences below 0 are in our favour."""
    rows = [
        "| peer | ours, no larger | ΔKL, weights alone | ours, no larger | ΔKL, as computed |",
        "|---|---|---|---|---|",
    ]
    for first, second in zip(alone, computed, strict=True):
        rows.append(f"| {first.peer} | {_cells(first)} | {_cells(second)} |")
    return "\n".join(rows)


def _cells(verdict: Verdict) -> str:
    if verdict.rival is None:
        return "none so small | –"
    return f"{verdict.rival} | {verdict.difference:+.6f} ± {verdict.error:.6f}"


def real_table(losses: Sequence[Loss]) -> str:
    """In Markdown, by size."""
    rows = ["| format | of | bits per weight | error, weights alone | error, as computed |", "|---|---|---|---|---|"]
    for each in sorted(losses, key=lambda each: (each.bits, each.weights)):
        rows.append(f"| {each.name} | {each.family} | {each.bits:.2f} | {each.weights:.4f} | {each.computed:.4f} |")
    return "\n".join(rows)

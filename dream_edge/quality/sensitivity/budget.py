"""Spending bits where they save most: a format for every matrix, from what each was measured to cost.

Losses of single matrices are taken to add up (`Sensitivity.additivity` says how well they do). Choosing one format for
every matrix, of least total loss within a number of bytes, is the multiple-choice knapsack problem. The greedy
algorithm for its continuous relaxation (Sinha and Zoltners, Operations Research 27, 1979) walks the lower convex hulls
of the matrices' (bytes, loss) points by steepest descent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Formats, Recipe, WeightFormat
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, parameter_count, stored_shapes

from ..errors import BudgetOutOfRange, thousandth_above
from .effects import Sensitivity, format_name


@dataclass(frozen=True)
class Choice:
    """One way to store a matrix: its name, bytes, loss."""

    name: str
    bytes: int
    loss: float


def spend(choices: Mapping[str, Sequence[Choice]], budget: int) -> dict[str, Choice]:
    """One of the `choices` for each key, of at most `budget` bytes together and little loss.

    The total loss exceeds the least possible one by no more than what a single step along a hull saves. A step that no
    longer fits is left out and smaller ones are tried after it.

    Raises: ValueError where even the smallest choices exceed `budget`.
    """
    hulls = {key: hull(each) for key, each in choices.items()}
    chosen = {key: points[0] for key, points in hulls.items()}
    left = budget - sum(choice.bytes for choice in chosen.values())
    if left < 0:
        raise ValueError(f"{-left} bytes too many")
    steps = [(_slope(low, high), key, low, high) for key, points in hulls.items() for low, high in pairwise(points)]
    for _, key, low, high in sorted(steps, key=lambda step: step[0]):
        if chosen[key] is low and high.bytes - low.bytes <= left:
            left -= high.bytes - low.bytes
            chosen[key] = high
    return chosen


def hull(choices: Sequence[Choice]) -> list[Choice]:
    """Those on the lower convex hull of loss over bytes, as far as it falls; the smallest first."""
    points: list[Choice] = []
    for choice in sorted(choices, key=lambda each: (each.bytes, each.loss)):
        if points and choice.loss >= points[-1].loss:
            continue
        while len(points) > 1 and _slope(points[-1], choice) <= _slope(points[-2], points[-1]):
            points.pop()
        if points and points[-1].bytes == choice.bytes:
            continue
        points.append(choice)
    return points


def _slope(low: Choice, high: Choice) -> float:
    """Loss gained for each byte: below 0, since loss falls along a hull."""
    return (high.loss - low.loss) / (high.bytes - low.bytes)


def formats_for(
    config: ModelConfig, losses: Mapping[str, Mapping[WeightFormat, float]], bits: float
) -> tuple[Formats, float]:
    """The formats of at most `bits` stored bits for each parameter, and the loss that they add up to.

    `losses` are those of storing one matrix alone in each of some formats. Raises BudgetOutOfRange.
    """
    shapes, exact = stored_shapes(config), Recipe.for_scheme("int4").targets["cpu"]
    choices = {
        name: [Choice(format_name(each), each.stored_bytes(*shapes[name]), loss) for each, loss in losses[name].items()]
        for name in shapes
    }
    formats = {name: {format_name(each): each for each in losses[name]} for name in shapes}
    rest = exact.stored_bytes(config) - sum(exact.of(name).stored_bytes(*shape) for name, shape in shapes.items())
    per_bit = parameter_count(config) / 8
    least = (rest + sum(min(each.bytes for each in points) for points in choices.values())) / per_bit
    most = (rest + sum(hull(points)[-1].bytes for points in choices.values())) / per_bit
    if not least <= bits <= thousandth_above(most):
        raise BudgetOutOfRange(bits, least, most)
    chosen = spend(choices, int(bits * per_bit) - rest)
    picked = {name: formats[name][choice.name] for name, choice in chosen.items()}
    layers = {name: each for name, each in picked.items() if name not in (EMBEDDING, LM_HEAD)}
    (body, _), *_ = Counter(layers.values()).most_common(1)
    found = Formats(
        body=body,
        embedding=picked[EMBEDDING],
        lm_head=picked[EMBEDDING if config.tie_word_embeddings else LM_HEAD],
        overrides={name: each for name, each in layers.items() if each != body},
    )
    return found, sum(choice.loss for choice in chosen.values())


def budget_recipe(found: Sensitivity, config: ModelConfig, bits: float, path: Path) -> tuple[Recipe, dict[str, Any]]:
    """The mixed recipe of at most `bits` bits per weight that `found`, read from `path`, speaks for; and its origin.

    Raises: BudgetOutOfRange, MeasurementsUnfit.
    """
    formats, loss = formats_for(config, found.losses(config, path), bits)
    origin = {
        "bits": bits,
        "expected_kl": float(f"{loss:.4g}"),
        "formats": sorted({format_name(formats.of(name)) for name in stored_shapes(config)}),
        "measured_on": {"passages_sha256": found.passages, "sequences": found.sequences, "positions": found.positions},
    }
    return Recipe(scheme="mixed", targets={"cpu": formats}), origin

"""Which masked positions are revealed at a step: a family of strategies a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from ...arrays import IntArray
from ...errors import InvalidOption
from ...inference.network import Rows
from ..option import Kind, Real
from ..order import Ranking
from ..sampling import Proposal, UniformSource
from ..schedule import Timestep


class Reveal(Protocol):
    """Decides in two stages, so that the network is asked only for what can matter.

    Belongs to one sequence of one generation, so that it may remember earlier steps.
    """

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        """Which of `masked` positions may be revealed at this step: ascending indices. Without any, no pass is made."""
        ...

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        """Which of the asked positions are revealed: indices into `positions` [asked], best first.

        `positions` are their places on the canvas, ascending; `proposal` holds their tokens, drawn from `rows`. Where
        `rows` are not fresh it may choose none: the step is then made again with everything computed.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ParallelReveal:
    """Reveals at once what the official loop would reveal next, as long as each token is sure; at least the first one.

    The order is the official one, by the distribution that tokens are drawn from; what is sure is judged by the
    network's own, whatever the temperature and the filters. A token that is sure but not yet its turn waits: filters
    make many confidences equal, the leftmost of equal ones is first, and on some tasks that order is what solves them.

    Where the first is not sure it is guessed, as the official loop does. But nothing is guessed from rows that are not
    fresh, which an "auto" cache gives: none is revealed, and the step is made again with everything computed. This is
    ours: a guess from stale keys and values is often wrong (docs/decoding.md). The last step reveals what is left.

    To add a strategy, derive from this, fill in the class attributes, say in `select` what is revealed, and `register`
    it by a name: it is then a value of the option `reveal` wherever options are given.
    """

    within: ClassVar[Real]
    """Which values it takes."""
    default: ClassVar[float]
    help: ClassVar[str]
    """What it reveals, X being its value."""
    source: ClassVar[str]
    as_published: ClassVar[bool] = False
    """Whether it judges by the distribution that tokens are drawn from, and lets neighbours be the same token."""

    ranking: Ranking
    value: float

    def ask(self, masked: int, timestep: Timestep, draws: UniformSource) -> IntArray:
        return np.arange(masked)

    def choose(
        self, proposal: Proposal, rows: Rows, positions: IntArray, timestep: Timestep, draws: UniformSource
    ) -> IntArray:
        best_first = self.ranking.best_first(proposal, positions, draws)
        if timestep.last:
            return best_first
        sure = self.select(best_first, proposal.judged or proposal, timestep)
        return sure if sure.size or not rows.fresh else best_first[:1]

    def select(self, best_first: IntArray, judged: Proposal, timestep: Timestep) -> IntArray:
        """Return the first of the indices `best_first` [asked], as many as are sure; it may be none."""
        raise NotImplementedError


STRATEGIES: dict[str, type[ParallelReveal]] = {}
"""The strategies that the option `reveal` names."""

_Strategy = TypeVar("_Strategy", bound=type[ParallelReveal])


def register(name: str) -> Callable[[_Strategy], _Strategy]:
    """Offer a strategy as a value of the option `reveal`."""

    def enter(strategy: _Strategy) -> _Strategy:
        STRATEGIES[name] = strategy
        return strategy

    return enter


@dataclass(frozen=True)
class StrategyName(Kind):
    """A strategy and its value: "factor:0.5", or "factor" alone for its default."""

    @property
    def requirement(self) -> str:
        return f"must be NAME:VALUE, with one of these names: {', '.join(STRATEGIES)}"

    def describe(self) -> str:
        return "; ".join(f"{name}:X reveals {strategy.help}" for name, strategy in STRATEGIES.items()) + "."

    def convert(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value.partition(":")[0] not in STRATEGIES:
            raise InvalidOption(name, value, self.requirement)
        strategy, _, number = value.partition(":")
        found = _read(name, value)[1] if number else STRATEGIES[strategy].default
        return f"{strategy}:{found:g}" if float(f"{found:g}") == found else f"{strategy}:{found!r}"


def parse_strategy(text: str) -> tuple[type[ParallelReveal], float]:
    """The strategy and the value that a valid `text` names."""
    return _read("reveal", text)


def _read(option: str, text: str) -> tuple[type[ParallelReveal], float]:
    name, _, number = text.partition(":")
    within = STRATEGIES[name].within
    try:
        value = float(number)
        return STRATEGIES[name], within.convert(option, value)
    except (InvalidOption, ValueError):
        raise InvalidOption(option, text, f"{within.requirement} after {name}:") from None

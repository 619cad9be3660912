"""How one option of a generation is declared: once, and everything else is made from it.

`GenerationConfig` checks its values by it; the command line's options, the server's fields and the manual's table are
made of it.
"""

from __future__ import annotations

import numbers
import operator
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import InvalidOption


class Kind(Protocol):
    """What values an option takes."""

    @property
    def requirement(self) -> str:
        """What a value must be, as errors and the manual put it: "must …"."""
        ...

    def describe(self) -> str:
        """What is to be said after the option's help; mostly nothing."""
        return ""

    def convert(self, name: str, value: Any) -> Any:
        """Return `value` as it is stored. Raises InvalidOption, naming the option, where it is none."""
        ...


@dataclass(frozen=True)
class Integer(Kind):
    """A whole number."""

    least: int
    most: int | None = None

    @property
    def requirement(self) -> str:
        least, most = self.least, self.most
        return f"must be an integer of at least {least}" if most is None else f"must be an integer, {least} to {most}"

    def convert(self, name: str, value: Any) -> int:
        try:
            number = operator.index(value)
        except TypeError:
            raise InvalidOption(name, value, self.requirement) from None
        if isinstance(value, bool) or number < self.least or (self.most is not None and number > self.most):
            raise InvalidOption(name, value, self.requirement)
        return number


@dataclass(frozen=True)
class Real(Kind):
    """A number between two others. `open_low` and `open_high` leave out the bound itself; `or_zero` lets 0 in."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False
    or_zero: bool = False

    @property
    def requirement(self) -> str:
        begin, end = "(" if self.open_low else "[", ")" if self.open_high else "]"
        interval = f"lie in {begin}{_short(self.low)}, {_short(self.high)}{end}"
        return f"must be 0, or {interval}" if self.or_zero else f"must {interval}"

    def convert(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not self._fits(value):
            raise InvalidOption(name, value, self.requirement)
        return float(value)

    def _fits(self, value: Any) -> bool:  # no comparison lets NaN in
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return bool((above and below) or (self.or_zero and value == 0))


@dataclass(frozen=True)
class Choice(Kind):
    """One of some names."""

    names: tuple[str, ...]

    @property
    def requirement(self) -> str:
        return f"must be one of {', '.join(self.names)}"

    def convert(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.names:
            raise InvalidOption(name, value, self.requirement)
        return value


@dataclass(frozen=True)
class Flag(Kind):
    """On or off."""

    @property
    def requirement(self) -> str:
        return "must be true or false"

    def convert(self, name: str, value: Any) -> bool:
        if type(value) is not bool:
            raise InvalidOption(name, value, self.requirement)
        return value


@dataclass(frozen=True)
class Texts(Kind):
    """One text or several."""

    @property
    def requirement(self) -> str:
        return "must be text or a sequence of texts, none of them empty"

    def convert(self, name: str, value: Any) -> tuple[str, ...]:
        texts = (value,) if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(each, str) and each for each in texts):
            raise InvalidOption(name, value, self.requirement)
        return tuple(texts)


@dataclass(frozen=True, kw_only=True)
class Option:
    """What is declared of one option.

    Attributes:
        help: what it does, in a line or two.
        flags: on the command line, where that is not its name with dashes.
        default_help: what holds where the option is not given, if that is not its default.
        source: the paper it comes from.
    """

    kind: Kind
    help: str
    flags: tuple[str, ...] = ()
    default_help: str = ""
    source: str = ""

    def explain(self) -> str:
        """What it does, and what its values mean."""
        return f"{self.help} {self.kind.describe()}".rstrip()


def option(default: Any, kind: Kind, explained: str, **details: Any) -> Any:
    """Declare a field of `GenerationConfig`; `details` are those of `Option`. A default of None may be given too."""
    return field(default=default, metadata={"option": Option(kind=kind, help=explained, **details)})


def _short(number: float) -> str:
    if not number or 1e-3 <= number < 1e4:
        return f"{number:g}"
    return f"{number:.0e}".replace("e-0", "e-").replace("e+0", "e")

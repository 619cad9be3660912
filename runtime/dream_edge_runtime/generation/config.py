"""How a text is to be generated: one frozen, validated dataclass."""

from __future__ import annotations

import dataclasses
import numbers
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import InvalidConfig, InvalidOption, UnknownOption
from .order import ORDERS

ORIGIN = "origin"
ALGORITHMS = (ORIGIN, *ORDERS)
"""The names `algorithm` accepts: `origin` reveals at random, the others by their confidence."""

CacheKind = Literal["none", "prefix", "dual", "auto"]
DEFAULT_BLOCK = 32
PARALLEL = ("threshold", "factor", "entropy_bound", "sched", "local_leap", "klass")
"""Fields that decide how many tokens a step reveals. They exclude each other; the official schedule has none."""
MOST_STEPS = 1 << 20
MOST_TOKENS = 1 << 20  # no canvas comes near it; the model's context is checked against the prompt


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Everything that decides which text comes out, apart from the prompt.

    Raises:
        InvalidOption: naming the field and what it requires.
    """

    max_new_tokens: int = 128
    """How many tokens follow the prompt. (infill and fill go by the size of their holes instead.)"""
    steps: int | None = None
    """Denoising steps; None = one for each new token. With `threshold` and its alternatives, an upper bound."""
    algorithm: str = ORIGIN
    """One of `ALGORITHMS`: what decides which masked positions are revealed first."""
    temperature: float = 0.0
    """Divides the logits; 0 takes the most probable token instead of drawing one."""
    top_p: float | None = None
    """Keep the smallest set of best tokens whose probability exceeds this. Applies at temperature 0 too."""
    top_k: int | None = None
    """Keep the k best tokens, after `top_p`."""
    algorithm_temperature: float | None = None
    """Draw positions from softmax(confidence / this) instead of taking the best ones; None or 0 = take the best."""
    eps: float = 1e-3
    """Where the time of the noise schedule, which starts at 1, ends."""
    eos_penalty: float = 0.0
    """Keeps a text from ending early: adds this times log(1 - time + eps), which is negative, to the logit of the end
    of text. Time runs from 1 to eps. (Dream-Coder, arXiv 2509.01142; its authors use 3.)"""
    seed: int | None = None
    """Repeats a generation bit for bit; None = a new one each time, named in the result."""
    threshold: float | None = None
    """Reveal at once every position whose proposed token has at least this probability (arXiv 2505.22618)."""
    factor: float | None = None
    """Instead: reveal n positions at once while (n + 1)(1 - their lowest probability) is below this (arXiv 2505.22618).
    """
    entropy_bound: float | None = None
    """Instead: reveal positions at once while their entropies but for the largest sum to this many nats at most
    (arXiv 2505.24857)."""
    sched: float | None = None
    """Instead: follow the schedule until the best logit of what is masked lies this far above the second, on average,
    and then reveal it all; the distance asked for shrinks with progress (arXiv 2512.02892)."""
    local_leap: float | None = None
    """Instead: reveal at once every position with a probability of 0.9, and near those every one with this probability
    (arXiv 2510.07081)."""
    klass: float | None = None
    """Instead: reveal at once every position with a probability of 0.9 whose distribution has changed by less than this
    many nats (Kullback-Leibler) at each of the last two steps (arXiv 2511.05664)."""
    block_length: int | None = None
    """Fill the masks in blocks of so many, from left to right; None = all at once, or 32 with a cache."""
    cache: CacheKind = "none"
    """Between two steps in a block, remember keys and values: of what stands before it ("prefix"), or of everything but
    the block ("dual", arXiv 2505.22618). "auto": dual where a block is at most a quarter of the canvas, else none."""
    suffix_window: int | None = None
    """How many of the masks after the block are seen at all (arXiv 2508.14148); None = all of them."""
    max_hole_tokens: int = 64
    """Up to how many tokens the holes of infill and fill may grow together, by models that have `<|expand|>` (DreamOn);
    0 = each keeps the size it is given. Where they may grow, one token is revealed at a step, unless by `threshold`."""
    grow_from: int | None = None
    """Begin with so many new tokens and double them while no end of text is in sight, up to `max_new_tokens`
    (arXiv 2508.00819); None = all of them at once. For texts after a prompt."""
    stop_at_end: bool = False
    """End a text once its end of turn is settled and nothing before it is masked. The text is the same."""
    stop: tuple[str, ...] = ()
    """Cut the text before the first of these strings."""

    def __post_init__(self) -> None:
        self._set("max_new_tokens", _integer("max_new_tokens", self.max_new_tokens, 1, MOST_TOKENS))
        if not isinstance(self.algorithm, str) or self.algorithm not in ALGORITHMS:
            raise InvalidOption("algorithm", self.algorithm, f"must be one of {', '.join(ALGORITHMS)}")
        self._set("temperature", _temperature("temperature", self.temperature))
        self._set("eps", _number("eps", self.eps, "must lie in (0, 1)", lambda value: 0 < value < 1))
        self._set("stop", _strings("stop", self.stop))
        if self.steps is not None:
            self._set("steps", _integer("steps", self.steps, 1, MOST_STEPS))
        requirement = "must lie in [0, 1e4]"
        self._set("eos_penalty", _number("eos_penalty", self.eos_penalty, requirement, lambda value: 0 <= value <= 1e4))
        for name in ("top_p", "threshold"):
            value = getattr(self, name)
            if value is not None:
                self._set(name, _number(name, value, "must lie in (0, 1]", lambda value: 0 < value <= 1))
        for name in ("factor", "sched", "klass"):
            value = getattr(self, name)
            if value is not None:
                self._set(name, _number(name, value, "must lie in (0, 1e6]", lambda value: 0 < value <= 1e6))
        if self.entropy_bound is not None:
            requirement = "must lie in [0, 1e6]"
            bound = _number("entropy_bound", self.entropy_bound, requirement, lambda value: 0 <= value <= 1e6)
            self._set("entropy_bound", bound)
        if self.local_leap is not None:
            requirement = "must lie in (0, 0.9]"
            self._set("local_leap", _number("local_leap", self.local_leap, requirement, lambda value: 0 < value <= 0.9))
        chosen = [name for name in PARALLEL if getattr(self, name) is not None]
        if len(chosen) > 1:
            first, second = chosen[:2]
            raise InvalidOption(second, getattr(self, second), f"contradicts {first}={getattr(self, first)}: name one")
        if self.cache not in get_args(CacheKind):
            raise InvalidOption("cache", self.cache, f"must be one of {', '.join(get_args(CacheKind))}")
        if type(self.stop_at_end) is not bool:
            raise InvalidOption("stop_at_end", self.stop_at_end, "must be true or false")
        if self.block_length is not None:
            self._set("block_length", _integer("block_length", self.block_length, 1, MOST_TOKENS))
        elif self.cache in ("prefix", "dual"):
            self._set("block_length", DEFAULT_BLOCK)
        if self.suffix_window is not None:
            self._set("suffix_window", _integer("suffix_window", self.suffix_window, 0, MOST_TOKENS))
        if self.grow_from is not None:
            self._set("grow_from", _integer("grow_from", self.grow_from, 1, MOST_TOKENS))
        self._set("max_hole_tokens", _integer("max_hole_tokens", self.max_hole_tokens, 0, MOST_TOKENS))
        if self.top_k is not None:
            self._set("top_k", _integer("top_k", self.top_k, 1, None))
        if self.algorithm_temperature is not None:
            self._set("algorithm_temperature", _temperature("algorithm_temperature", self.algorithm_temperature))
        if self.seed is not None:
            self._set("seed", _integer("seed", self.seed, 0, None))

    @property
    def parallel(self) -> str | None:
        """Which of `PARALLEL` is set."""
        return next((name for name in PARALLEL if getattr(self, name) is not None), None)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # frozen: only here, to store the plain int, float or tuple

    def replace(self, **overrides: Any) -> GenerationConfig:
        """A copy with some fields changed. One of `PARALLEL` takes the place of another that is set.

        Raises:
            UnknownOption: a name that is no field.
            InvalidOption: a value that does not fit its field.
        """
        for name in overrides:
            if name not in FIELDS:
                raise UnknownOption(name, FIELDS)
        if any(overrides.get(name) is not None for name in PARALLEL):
            overrides = dict.fromkeys(PARALLEL) | overrides
        return dataclasses.replace(self, **overrides)

    @classmethod
    def from_checkpoint(cls, raw: Mapping[str, Any], source: Path | str = "generation_config.json") -> GenerationConfig:
        """The defaults in a checkpoint's parsed generation_config.json.

        Takes Dream's own keys (alg, alg_temp, eos_penalty, eps, steps, temperature, top_p, top_k). Other keys and nulls
        are ignored; a top_k of 0 means off, as everywhere on the Hub. `source` is named in errors.

        Raises:
            InvalidConfig: naming the key's field and what it requires.
        """
        values = {field: raw[key] for key, field in _CHECKPOINT_KEYS.items() if raw.get(key) is not None}
        if values.get("top_k") == 0:
            del values["top_k"]
        try:
            return cls(**values)
        except InvalidOption as error:
            raise InvalidConfig(source, [str(error).rstrip(".")]) from None


FIELDS = tuple(field.name for field in fields(GenerationConfig))

_CHECKPOINT_KEYS = {
    "alg": "algorithm",
    "alg_temp": "algorithm_temperature",
    "eos_penalty": "eos_penalty",
    "eps": "eps",
    "steps": "steps",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
}


def _integer(name: str, value: Any, least: int, most: int | None) -> int:
    requirement = (
        f"must be an integer of at least {least}" if most is None else f"must be an integer, {least} to {most}"
    )
    if isinstance(value, bool):
        raise InvalidOption(name, value, requirement)
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidOption(name, value, requirement) from None
    if number < least or (most is not None and number > most):
        raise InvalidOption(name, value, requirement)
    return number


def _number(name: str, value: Any, requirement: str, fits: Callable[[Any], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not fits(value):  # no comparison lets NaN in
        raise InvalidOption(name, value, requirement)
    return float(value)


def _temperature(name: str, value: Any) -> float:
    """Beyond these bounds the scaled logits leave fp32, or differ by nothing."""
    return _number(name, value, "must be 0, or lie in [1e-4, 1e4]", lambda value: value == 0 or 1e-4 <= value <= 1e4)


def _strings(name: str, value: Any) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if not isinstance(strings, list | tuple) or not all(isinstance(each, str) and each for each in strings):
        raise InvalidOption(name, value, "must be text or a sequence of texts, none of them empty")
    return tuple(strings)

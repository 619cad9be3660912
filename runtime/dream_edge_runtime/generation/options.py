"""The keywords that every generating method takes: the fields of `GenerationConfig`, `exact`, and how to run it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from ..errors import InvalidOption, UnknownOption
from .config import FIELDS, PARALLEL, CacheKind, GenerationConfig
from .hooks import NO_HOOKS, Hooks, LogitsHook, TokenHook


class Options(TypedDict, total=False):
    """Fields of `GenerationConfig`; `exact` for the official loop (see `apply_preset`); and those of `RunOptions`."""

    max_new_tokens: int
    steps: int | None
    algorithm: str
    temperature: float
    top_p: float | None
    top_k: int | None
    algorithm_temperature: float | None
    eps: float
    eos_penalty: float
    seed: int | None
    threshold: float | None
    factor: float | None
    entropy_bound: float | None
    sched: float | None
    local_leap: float | None
    klass: float | None
    block_length: int | None
    cache: CacheKind
    suffix_window: int | None
    max_hole_tokens: int
    grow_from: int | None
    stop_at_end: bool
    stop: str | Sequence[str]
    exact: bool
    cancel: threading.Event | None
    history: bool
    logits_hook: LogitsHook | None
    token_hook: TokenHook | None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a generation is run, as opposed to what it generates."""

    cancel: threading.Event | None = None
    """Set it, from any thread, and the generation raises `Cancelled` within one step."""
    history: bool = False
    """Keep the canvas ids after every step in the result."""
    hooks: Hooks = NO_HOOKS


EXACT = "exact"
RUNNING = ("cancel", "history", "logits_hook", "token_hook")


def resolve(
    defaults: GenerationConfig, config: GenerationConfig | None, options: Mapping[str, Any]
) -> tuple[GenerationConfig, RunOptions]:
    """The configuration and the run options that `options` describe.

    A `config` is taken at its word: the options change its fields and nothing else. Without one, what they leave open
    is up to the preset, on top of the checkpoint's `defaults`.

    Raises:
        UnknownOption: a keyword that does not exist.
        InvalidOption: a value that does not fit.
    """
    if config is not None and not isinstance(config, GenerationConfig):
        raise InvalidOption("config", config, "must be a GenerationConfig")
    fields = {name: value for name, value in options.items() if name not in (*RUNNING, EXACT)}
    for name in fields:
        if name not in FIELDS:
            raise UnknownOption(name, (*FIELDS, EXACT, *RUNNING))
    exact = options.get(EXACT, False)
    if type(exact) is not bool:
        raise InvalidOption(EXACT, exact, "must be true or false")
    if exact and config is not None:
        raise InvalidOption(EXACT, exact, "means the checkpoint's own settings and goes without a config")
    cancel = options.get("cancel")
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise InvalidOption("cancel", cancel, "must be a threading.Event")
    hooks = Hooks(options.get("logits_hook"), options.get("token_hook"))
    run_options = RunOptions(cancel=cancel, history=bool(options.get("history")), hooks=hooks)
    settled = apply_preset(defaults, fields, exact=exact) if config is None else config.replace(**fields)
    return settled, run_options


FAST: Mapping[str, Any] = {"threshold": 0.98, "cache": "auto", "stop_at_end": True}
"""The fastest setting whose scores on the tiny Dream's tasks stay within one point of the official loop's
(benchmarks/decoding.py)."""

SCHEDULE = ("steps", "algorithm", "algorithm_temperature", "eps")
"""Options of the official schedule: a call that names one, and nothing of `PARALLEL`, gets that schedule."""

SAVING = ("block_length", "cache", "suffix_window", "grow_from")
"""Options that leave out of a pass what the official loop computes."""


def apply_preset(defaults: GenerationConfig, named: Mapping[str, Any], *, exact: bool) -> GenerationConfig:
    """What a call does that names the fields `named`, on top of the checkpoint's `defaults`.

    Raises:
        InvalidOption: a value that does not fit, or an option that is no part of the official loop although `exact`.
        UnknownOption: a name that is no field.
    """
    if exact:
        for name in (*PARALLEL, *SAVING):
            if named.get(name) not in (None, "none"):
                raise InvalidOption(name, named[name], "does not go with exact: the official loop has none")
        return defaults.replace(**named)
    parallel = any(named.get(name) is not None for name in PARALLEL)
    if not parallel and any(named.get(name) is not None for name in SCHEDULE):
        return defaults.replace(**named)
    fast = {name: value for name, value in FAST.items() if not (parallel and name in PARALLEL)}
    return defaults.replace(**{**fast, **named})

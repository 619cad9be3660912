"""The keywords that every generating method takes: the fields of `GenerationConfig`, and how to run it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from .errors import InvalidOption, UnknownOption
from .generation_config import FIELDS, CacheKind, GenerationConfig
from .hooks import NO_HOOKS, Hooks, LogitsHook, TokenHook


class Options(TypedDict, total=False):
    """Fields of `GenerationConfig` override those of the configuration; the others are explained at `Conduct`."""

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
    block_length: int | None
    cache: CacheKind
    refresh: int | None
    suffix_window: int | None
    stop_at_end: bool
    stop: str | Sequence[str]
    cancel: threading.Event | None
    history: bool
    logits_hook: LogitsHook | None
    token_hook: TokenHook | None


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """How a generation is run, as opposed to what it generates."""

    cancel: threading.Event | None = None
    """Set it, from any thread, and the generation raises `Cancelled` within one step."""
    history: bool = False
    """Keep the canvas ids after every step in the result."""
    hooks: Hooks = NO_HOOKS


RUNNING = ("cancel", "history", "logits_hook", "token_hook")


def resolve(
    defaults: GenerationConfig, config: GenerationConfig | None, options: Mapping[str, Any]
) -> tuple[GenerationConfig, Conduct]:
    """The configuration and conduct that `options` describe, on top of `config`, or of `defaults` where it is None.

    Raises:
        UnknownOption: a keyword that does not exist.
        InvalidOption: a value that does not fit.
    """
    if config is not None and not isinstance(config, GenerationConfig):
        raise InvalidOption("config", config, "must be a GenerationConfig")
    fields = {name: value for name, value in options.items() if name not in RUNNING}
    for name in fields:
        if name not in FIELDS:
            raise UnknownOption(name, (*FIELDS, *RUNNING))
    cancel = options.get("cancel")
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise InvalidOption("cancel", cancel, "must be a threading.Event")
    hooks = Hooks(options.get("logits_hook"), options.get("token_hook"))
    conduct = Conduct(cancel=cancel, history=bool(options.get("history")), hooks=hooks)
    return (config or defaults).replace(**fields), conduct

"""The keywords that every generating method takes: the fields of `GenerationConfig`, a preset, and how to run it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from ..constraint.rule import Rule, read_rule
from ..errors import InvalidOption, UnknownOption
from .config import FIELDS, PARALLEL, Alignment, CacheKind, GenerationConfig
from .finished_blocks import BlockStore
from .hooks import NO_HOOKS, Hooks, LogitsHook, TokenHook


class Options(TypedDict, total=False):
    """Fields of `GenerationConfig`; what the text must match (`RULES`); `preset`, a name of `PRESETS` (`exact=True` is
    "exact"); those of `RunOptions`."""

    max_new_tokens: int | None
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
    reveal: str | None
    block_length: int | None
    align: Alignment
    cache: CacheKind
    suffix_window: int | None
    max_hole_tokens: int
    grow_from: int | None
    thinking: bool | None
    stop_at_end: bool
    stop: str | Sequence[str]
    json_schema: Mapping[str, Any] | bool | None
    regex: str | None
    choices: Sequence[str] | None
    preset: str
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
    rule: Rule | None = None
    """What the new text must match, each hole by itself."""
    store: BlockStore | None = None
    """Where a block-causal model finds the finished blocks of earlier texts, and leaves those of this one."""


RUNNING = ("cancel", "history", "logits_hook", "token_hook")
SCHEDULE = ("steps", "algorithm", "algorithm_temperature", "eps")
"""Options of the official schedule, which a call gets that names one of them, no preset, and nothing of `PARALLEL`."""
SAVING = ("block_length", "cache", "suffix_window", "grow_from")
"""Options that leave out of a pass what the official loop computes."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Values of options, on top of the checkpoint's own."""

    help: str
    source: str
    """What speaks for these values."""
    settings: Mapping[str, Any]
    excludes: tuple[str, ...] = ()
    """Options that do not go with it."""

    def values(self, *, block_causal: bool) -> dict[str, Any]:
        """Its settings; those of `SAVING` are for full attention, a block-causal model saves as much without them."""
        return {name: value for name, value in self.settings.items() if not (block_causal and name in SAVING)}


PRESETS: dict[str, Preset] = {
    "exact": Preset(
        help="The loop that the checkpoint was published with, by its own settings; nothing of ours that saves passes.",
        source="diffusion_generate of the published Dream",
        settings={},
        excludes=(*PARALLEL, *SAVING),
    ),
    "careful": Preset(
        help="Every token at least 0.99 probable at once, in sight of the whole canvas.",
        source="within 2 points of exact on long texts; less good with far more room than text (docs/decoding.md)",
        settings={"threshold": 0.99, "cache": "auto", "align": "prompt", "stop_at_end": True},
    ),
    "fast": Preset(
        help="As careful, in sight of the block and the 48 masks after it.",
        source="within a point of exact on short texts, 1 to 3 points below on long ones (docs/decoding.md)",
        settings={"threshold": 0.99, "cache": "auto", "suffix_window": 48, "align": "prompt", "stop_at_end": True},
    ),
    "streaming": Preset(
        help="A falling threshold from 0.9, a prefix cache, in sight of the 32 masks after the block.",
        source="Streaming-dLLM, arXiv 2601.17917, as evaluated on Dream-Base",
        settings={
            "reveal": "falling_threshold:0.9",
            "cache": "prefix",
            "suffix_window": 32,
            "align": "prompt",
            "stop_at_end": True,
        },
    ),
    "turbo": Preset(
        help="As fast, but every token at least 0.9 probable at once.",
        source="Fast-dLLM, arXiv 2505.22618, section 3.3: its threshold",
        settings={"threshold": 0.9, "cache": "auto", "suffix_window": 48, "align": "prompt", "stop_at_end": True},
    ),
}
DEFAULT_PRESET = "fast"


def resolve(
    defaults: GenerationConfig,
    config: GenerationConfig | None,
    options: Mapping[str, Any],
    *,
    block_causal: bool = False,
) -> tuple[GenerationConfig, RunOptions]:
    """The configuration and the run options that `options` describe.

    A `config` is taken at its word: the options change its fields and nothing else. Without one, what they leave open
    is up to the preset, on top of the checkpoint's `defaults`, for a model that is `block_causal` or not.

    Raises:
        UnknownOption: a keyword that does not exist.
        InvalidOption: a value that does not fit.
    """
    if config is not None and not isinstance(config, GenerationConfig):
        raise InvalidOption("config", config, "must be a GenerationConfig")
    fields = {name: value for name, value in options.items() if name in FIELDS}
    for name in options:
        if name not in Options.__annotations__:
            raise UnknownOption(name, tuple(Options.__annotations__))
    preset = name_preset(options)
    if preset and config is not None:
        name = "exact" if options.get("exact") else "preset"
        raise InvalidOption(name, options[name], "is on top of the checkpoint's own settings and goes without a config")
    cancel = options.get("cancel")
    if cancel is not None and not callable(getattr(cancel, "is_set", None)):
        raise InvalidOption("cancel", cancel, "must be a threading.Event")
    hooks = Hooks(options.get("logits_hook"), options.get("token_hook"))
    run_options = RunOptions(cancel=cancel, history=bool(options.get("history")), hooks=hooks, rule=read_rule(options))
    if config is not None:
        return config.replace(**fields), run_options
    return apply_preset(preset, defaults, fields, block_causal=block_causal), run_options


def name_preset(options: Mapping[str, Any]) -> str | None:
    """The preset that `options` name, by `preset` or `exact`.

    Raises:
        InvalidOption: there is none of this name, or they name two.
    """
    preset, exact = options.get("preset"), options.get("exact", False)
    if type(exact) is not bool:
        raise InvalidOption("exact", exact, "must be true or false")
    if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
        raise InvalidOption("preset", preset, f"must be one of {', '.join(PRESETS)}")
    if exact and preset not in (None, "exact"):
        raise InvalidOption("exact", exact, f"contradicts preset={preset}: name one")
    return "exact" if exact else preset


def apply_preset(
    preset: str | None, defaults: GenerationConfig, named: Mapping[str, Any], *, block_causal: bool
) -> GenerationConfig:
    """What a call does that names the fields `named`, on top of the checkpoint's `defaults`.

    Without a preset it is `DEFAULT_PRESET`, or the official schedule where one of `SCHEDULE` is named.

    Raises:
        InvalidOption: a value that does not fit, or an option that does not go with the preset.
        UnknownOption: a name that is no field.
    """
    parallel = any(named.get(name) is not None for name in PARALLEL)
    if preset is None:
        if not parallel and any(named.get(name) is not None for name in SCHEDULE):
            return defaults.replace(**named)
        preset = DEFAULT_PRESET
    for name in PRESETS[preset].excludes:
        if named.get(name) not in (None, "none"):
            raise InvalidOption(name, named[name], f"does not go with {preset}: the official loop has none")
    settings = PRESETS[preset].values(block_causal=block_causal)
    settings = {name: value for name, value in settings.items() if not (parallel and name in PARALLEL)}
    return defaults.replace(**{**settings, **named})

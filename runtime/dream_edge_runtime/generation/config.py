"""How a text is to be generated: one frozen, validated dataclass, and the one table of its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import InvalidConfig, InvalidOption, UnknownOption
from ..files.json import describe
from ..format.model_config import ModelConfig
from .option import Choice, Flag, Integer, Option, Real, Texts, option
from .order import ORDERS
from .reveal import STRATEGIES, ParallelReveal, StrategyName, parse_strategy
from .reveal.parallel import ConfidenceThreshold

ORIGIN = "origin"
ALGORITHMS = (ORIGIN, *ORDERS)
"""The names `algorithm` accepts: `origin` reveals at random, the others by their confidence."""

CacheKind = Literal["none", "prefix", "dual", "auto"]
Alignment = Literal["prompt", "answer"]
DEFAULT_BLOCK = 32
DEFAULT_NEW_TOKENS = 128
PARALLEL = ("threshold", "reveal")
"""Options that decide how many tokens a step reveals. They exclude each other; the official schedule has none."""
MOST_STEPS = 1 << 17  # those that reveal nothing take time too: 4 s in all
MOST_TOKENS = 1 << 20  # no canvas comes near it; the model's context is checked against the prompt

_TEMPERATURE = Real(1e-4, 1e4, or_zero=True)  # beyond these, scaled logits leave fp32, or differ by nothing


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Everything that decides which text comes out, apart from what is given. The manual's reference lists the fields.

    Raises:
        InvalidOption: naming the field and what it requires.
    """

    max_new_tokens: int | None = option(
        None,
        Integer(1, MOST_TOKENS),
        "How many tokens are new. (Where a text has holes, their sizes say so.)",
        flags=("--max-new-tokens", "-n"),
        default_help=f"{DEFAULT_NEW_TOKENS}; with a block-causal model until the text ends or the context is full",
    )
    steps: int | None = option(
        None,
        Integer(1, MOST_STEPS),
        "Denoising steps, with a block-causal model of each block; with a threshold or another strategy, at most.",
        default_help="one for each new token",
    )
    algorithm: str = option(
        ORIGIN,
        Choice(ALGORITHMS),
        f"What is revealed first: origin (at random), {', '.join(ALGORITHMS[1:-1])} or {ALGORITHMS[-1]}.",
        flags=("--alg",),
    )
    temperature: float = option(0.0, _TEMPERATURE, "Divides the logits; 0 takes the most probable token.")
    top_p: float | None = option(
        None, Real(0, 1, open_low=True), "Keep the best tokens that together exceed this probability."
    )
    top_k: int | None = option(None, Integer(1), "Keep this many of the best tokens, after top_p.")
    algorithm_temperature: float | None = option(
        None, _TEMPERATURE, "Draw positions at this temperature; 0 takes the best ones.", flags=("--alg-temp",)
    )
    eps: float = option(
        1e-3, Real(0, 1, open_low=True, open_high=True), "Where the time of the noise schedule ends; it starts at 1."
    )
    eos_penalty: float = option(
        0.0,
        Real(0, 1e4),
        "Hold back the end of the text at the beginning, so that the text is not empty or cut short: adds this times "
        "log(1 - time + eps) to its logit.",
        source="Dream-Coder, arXiv 2509.01142, which uses 3",
    )
    seed: int | None = option(
        None,
        Integer(0),
        "Repeats a generation bit for bit; on CUDA, within one process.",
        default_help="a new one each time, named in the result",
    )
    threshold: float | None = option(
        None,
        ConfidenceThreshold.within,
        "Reveal tokens at once as long as each is at least this probable.",
        source=ConfidenceThreshold.source,
    )
    reveal: str | None = option(
        None, StrategyName(), "Reveal at once what a strategy allows: its name, and its value after a colon."
    )
    block_length: int | None = option(
        None,
        Integer(1, MOST_TOKENS),
        "Fill the masks in blocks of this many, from left to right.",
        default_help=f"all at once, {DEFAULT_BLOCK} with a cache or a suffix window; a block-causal model's own",
    )
    align: Alignment = option(  # noqa: RUF009 - a field, as the others
        "prompt",
        Choice(get_args(Alignment)),
        "Where a block-causal model's blocks begin: with the prompt, or with the answer after a shorter first block.",
        source="BD3-LM's sampler in dllm",
    )
    cache: CacheKind = option(  # noqa: RUF009 - a field, as the others
        "none",
        Choice(get_args(CacheKind)),
        "Inside a block, compute again only the block (dual), or it and what follows (prefix), as published; or only "
        "what changed and what is asked about, where that is little, to reveal what is sure (auto).",
        source="dual and prefix: Fast-dLLM, arXiv 2505.22618",
    )
    suffix_window: int | None = option(
        None,
        Integer(0, MOST_TOKENS),
        "How many of the masks after the block are seen, beside the last one.",
        default_help="all of them",
        source="DPad, arXiv 2508.14148; Streaming-dLLM, arXiv 2601.17917",
    )
    max_hole_tokens: int = option(
        64,
        Integer(0, MOST_TOKENS),
        "How far the holes may grow together, with a model that can expand them (DreamOn); 0 fixes their sizes.",
    )
    grow_from: int | None = option(
        None,
        Integer(1, MOST_TOKENS),
        "Begin with this many new tokens and double them while no end of the text is in sight.",
        default_help="all of them",
        source="DAEDAL, arXiv 2508.00819",
    )
    thinking: bool | None = option(
        None,
        Flag(),
        "Think before the answer, with a model that can.",
        default_help="as the checkpoint's chat template has it",
    )
    stop_at_end: bool = option(False, Flag(), "Stop once the end of the text is settled; the text is the same.")
    stop: tuple[str, ...] = option((), Texts(), "Cut the text before this. Several are possible.")

    def __post_init__(self) -> None:
        for name, each in OPTIONS.items():  # frozen: set only here, to store plain types
            value = getattr(self, name)
            if value is not None or DEFAULTS[name] is not None:
                object.__setattr__(self, name, each.kind.convert(name, value))
        first, *others = [name for name in PARALLEL if getattr(self, name) is not None] or [""]
        if others:
            requirement = f"contradicts {first}={getattr(self, first)}: name one"
            raise InvalidOption(others[0], getattr(self, others[0]), requirement)
        if self.block_length is None and (self.cache != "none" or self.suffix_window is not None):
            object.__setattr__(self, "block_length", DEFAULT_BLOCK)

    @property
    def parallel(self) -> tuple[type[ParallelReveal], float] | None:
        """The strategy that reveals several tokens at once, and its value; None with the official schedule."""
        if self.threshold is not None:
            return STRATEGIES["threshold"], self.threshold
        return None if self.reveal is None else parse_strategy(self.reveal)

    def replace(self, **overrides: Any) -> GenerationConfig:
        """A copy with some fields changed. One of `PARALLEL` takes the place of another that is set.

        Raises:
            UnknownOption: a name that is no field.
            InvalidOption: a value that does not fit its field.
        """
        for name in overrides:
            if name not in OPTIONS:
                raise UnknownOption(name, FIELDS)
        if any(overrides.get(name) is not None for name in PARALLEL):
            overrides = dict.fromkeys(PARALLEL) | overrides
        return dataclasses.replace(self, **overrides)

    @classmethod
    def from_checkpoint(
        cls,
        raw: Mapping[str, Any],
        source: Path | str = "generation_config.json",
        model: ModelConfig | None = None,
    ) -> GenerationConfig:
        """The defaults in a checkpoint's parsed generation_config.json, and where `model` is block-causal, those of the
        published loop that `sampler` names: one of `SAMPLERS`.

        Takes Dream's own keys (alg, alg_temp, eos_penalty, eps, steps, temperature, top_p, top_k), and other ways of
        programs to say the same: a top_k of 0 or -1 and a top_p above 1 are off, a temperature near 0 is 0, 512.0 is an
        integer. Other keys and nulls are ignored. `source` is named in errors.

        Raises:
            InvalidConfig: naming the key's field and what it requires.
        """
        values = {} if model is None else _published_loop(raw, source, model)
        values |= {field: _translate(field, raw[key]) for key, field in _CHECKPOINT_KEYS.items() if key in raw}
        try:
            return cls(**{field: value for field, value in values.items() if value is not None})
        except InvalidOption as error:
            raise InvalidConfig(source, [str(error).rstrip(".")]) from None


OPTIONS: dict[str, Option] = {field.name: field.metadata["option"] for field in fields(GenerationConfig)}
"""Every option as it is declared."""
DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(GenerationConfig)}
FIELDS = tuple(OPTIONS)

_CHECKPOINT_KEYS = {
    "alg": "algorithm",
    "alg_temp": "algorithm_temperature",
    **{name: name for name in ("eos_penalty", "eps", "steps", "temperature", "top_p", "top_k")},
}

SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "block_diffusion": {"algorithm": "maskgit_plus", "reveal": "low_confidence:0.9"},
    "fast_dllm_v2": {"algorithm": "maskgit_plus", "reveal": "low_confidence:0.9", "block_length": 8},
    "bd3lm": {"algorithm": "maskgit_plus", "align": "answer"},
}
"""The published loops of block-causal models: DreamReasoner's, Fast-dLLM v2's, and that of BD3-LM in dllm."""


def _published_loop(raw: Mapping[str, Any], source: Path | str, model: ModelConfig) -> dict[str, Any]:
    """The options of the loop that a block-causal `model` was published with."""
    if model.causal_block is None:
        return {}
    name = raw.get("sampler", "fast_dllm_v2" if model.shift else "block_diffusion")
    if not isinstance(name, str) or name not in SAMPLERS:
        raise InvalidConfig(source, [f"sampler is {describe(name)}, expected one of {', '.join(SAMPLERS)}"])
    values = dict(SAMPLERS[name])
    if "block_length" in values:
        values["block_length"] = min(values["block_length"], model.causal_block)
    return values


def _translate(name: str, value: Any) -> Any:
    """What a number in a checkpoint's file means for option `name`; None = off."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(OPTIONS[name].kind, Integer) and isinstance(value, float) and value.is_integer():
        value = int(value)
    if (name == "top_k" and value <= 0) or (name == "top_p" and value > 1):
        return None
    return 0.0 if OPTIONS[name].kind is _TEMPERATURE and 0 < value < _TEMPERATURE.low else value

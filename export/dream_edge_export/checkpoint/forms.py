"""From config.json to the facts of a network, some of which only the code of its architecture knows.

The published checkpoints are described in docs/relatives.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from dream_edge_runtime.errors import InvalidConfig, InvalidOption
from dream_edge_runtime.files.json import describe
from dream_edge_runtime.format.model_config import ModelConfig, divide_heads, type_problems

OPEN = "open"


@dataclass(frozen=True, kw_only=True)
class StatedFacts:
    """What the files of a checkpoint may leave open, as its user states it; None = the files say it.

    Raises:
        InvalidOption: an attention or a shift that does not exist.
    """

    attention: str | None = None
    """"full", or "block-causal:32" for blocks of 32 positions."""
    shift: int | None = None
    """How many positions after a row of logits the token stands that it predicts: 1 or 0."""
    mask_token: str | None = None
    """The text of the token that stands for what is to be found."""

    def __post_init__(self) -> None:
        if self.attention is not None and not _ATTENTION.fullmatch(self.attention):
            raise InvalidOption("attention", self.attention, "must be full, or block-causal: and the size of a block")
        if self.shift not in (None, 0, 1) or isinstance(self.shift, bool):
            raise InvalidOption("shift", self.shift, "must be 0 or 1")

    def to_dict(self) -> dict[str, Any]:
        """By name."""
        return asdict(self)

    @property
    def causal_block(self) -> int | None:
        """Positions of a block; None for full attention, and where nothing is stated."""
        _, _, size = (self.attention or "").partition(":")
        return int(size) if size else None


_ATTENTION = re.compile(r"full|block-causal:[1-9]\d{0,7}")
NOTHING_STATED = StatedFacts()


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the code of an architecture says, and its config.json does not."""

    model_type: str
    qwen: Literal[2, 3]
    """Of Qwen2's form q, k and v have biases; of Qwen3's the heads of q and k have norms, and a size of their own."""
    shift: int | None = None
    """None where checkpoints of this architecture differ, and do not say it."""
    block_field: str | None = None
    """The field of config.json that holds the size of its blocks; None for full attention, `OPEN` where checkpoints
    differ, and do not say it."""
    mask_token: str | None = None
    """The token that its code takes for the mask, where no file names one."""
    is_tied: bool | None = None
    """Whether its head is the embedding, where config.json does not say it; None: it must."""
    sampler: str | None = None
    """The published loop of those that write in blocks, one of the runtime's `SAMPLERS`; None: as the shift has it."""
    is_silent: bool = False
    """Whether its code asks the chat template for no thoughts unless it is told to, in training too."""


FORMS: Mapping[str, Form] = {
    "DreamModel": Form(model_type="Dream", qwen=2, shift=1),
    "DreamForCausalLM": Form(model_type="Dream", qwen=3, shift=0, block_field="block_size"),
    "CoDALanguageModel": Form(model_type="CoDA", qwen=3, shift=1, is_tied=True),
    "Fast_dLLM_QwenForCausalLM": Form(
        model_type="Fast_dLLM_Qwen", qwen=2, shift=1, block_field="bd_size", mask_token="|<MASK>|"
    ),
    "A2DQwen2LMHeadModel": Form(
        model_type="a2d-qwen2", qwen=2, shift=0, block_field=OPEN, mask_token="<|mask|>", sampler="bd3lm"
    ),
    "A2DQwen3LMHeadModel": Form(
        model_type="a2d-qwen3",
        qwen=3,
        shift=0,
        block_field=OPEN,
        mask_token="<|mask|>",
        sampler="bd3lm",
        is_silent=True,
    ),
    "Qwen2ForCausalLM": Form(model_type="qwen2", qwen=2, block_field=OPEN),
    "Qwen3ForCausalLM": Form(model_type="qwen3", qwen=3, block_field=OPEN),
}
"""By architecture. The last two mostly write from left to right; some were trained further to denoise."""

_DERIVED = ("expand_token_id", "context", "shift", "attention_bias", "qk_norm", "causal_block", "head_dim")
"""Not, or not always, in config.json under these names."""


def parse_config(
    raw: Mapping[str, Any], source: Path | str = "config.json", stated: StatedFacts = StatedFacts()
) -> ModelConfig:
    """The network that the parsed config.json `raw` describes; `source` is named in errors.

    The defaults of the architectures' own classes are not those of any published checkpoint, so that a missing field is
    an error, never a guess.

    Raises:
        InvalidConfig: naming every field that is missing, mistyped, out of range or inconsistent.
        InvalidOption: one of `stated` contradicts config.json.
    """
    raw = {**_rope_parameters(raw), **raw}
    architecture = find_architecture(raw)
    form = FORMS.get(architecture)
    if form and form.is_tied is not None:
        raw = {"tie_word_embeddings": form.is_tied, **raw}
    problems = [*_architecture_problems(raw, form)]
    named = [field.name for field in fields(ModelConfig) if field.name not in _DERIVED]
    problems += [_missing(name) for name in named if name not in raw]
    values = {name: raw[name] for name in named if name in raw} | {"expand_token_id": raw.get("expand_token_id")}
    if form is None:
        raise InvalidConfig(source, problems + type_problems(values))
    values |= _head_dim(raw, form) | {"attention_bias": form.qwen == 2, "qk_norm": form.qwen == 3}
    problems += [*_form_problems(raw, form), *_open_problems(raw, architecture, form, stated)]
    block = raw.get(form.block_field) if form.block_field not in (None, OPEN) else stated.causal_block
    shift = stated.shift if form.shift is None else form.shift
    if shift is not None:
        values["shift"] = shift
    values["causal_block"] = block
    field = "causal_block" if form.block_field in (None, OPEN) else str(form.block_field)
    if problems := problems + [problem.replace("causal_block", field) for problem in type_problems(values)]:
        raise InvalidConfig(source, problems)
    _check_stated(form, stated, block)
    try:
        config = ModelConfig(**values, context=values["max_position_embeddings"])
    except InvalidConfig as error:
        raise InvalidConfig(source, [each.replace("causal_block", field) for each in error.problems]) from None
    return replace(config, rms_norm_eps=float(config.rms_norm_eps), rope_theta=float(config.rope_theta))


def _missing(name: str) -> str:
    remedy = ": name the token with --mask-token" if name == "mask_token_id" else ""
    return f"{name} is missing{remedy}"


def find_architecture(raw: Mapping[str, Any]) -> str:
    """The first architecture of the parsed config.json `raw` that is known, or an empty text."""
    named = raw.get("architectures")
    return next((name for name in map(str, named if isinstance(named, list) else ()) if name in FORMS), "")


def _rope_parameters(raw: Mapping[str, Any]) -> dict[str, Any]:
    """rope_theta and rope_type where transformers 5 writes them."""
    parameters = raw.get("rope_parameters")
    if not isinstance(parameters, dict):
        return {}
    return {name: parameters[name] for name in ("rope_theta", "rope_type") if name in parameters}


def _head_dim(raw: Mapping[str, Any], form: Form) -> dict[str, Any]:
    declared = raw.get("head_dim")
    return {"head_dim": declared} if form.qwen == 3 and declared is not None else divide_heads(raw)


def _architecture_problems(raw: Mapping[str, Any], form: Form | None) -> Iterator[str]:
    if form is None:
        yield f"architectures is {describe(raw.get('architectures'))}, expected one of {sorted(FORMS)}"
    known = [form.model_type] if form else sorted({each.model_type for each in FORMS.values()})
    if raw.get("model_type") not in known:
        yield f"model_type is {describe(raw.get('model_type'))}, expected {' or '.join(known)}"
    if raw.get("hidden_act", "silu") != "silu":
        yield f"hidden_act is {describe(raw['hidden_act'])}, only 'silu' exists in these architectures"
    if raw.get("rope_scaling") is not None:
        yield "rope_scaling is set, which no checkpoint of the family uses: remove it where it changes nothing"
    if raw.get("rope_type", "default") != "default":
        yield f"rope_parameters is of the type {describe(raw['rope_type'])}, which no checkpoint of the family uses"
    if raw.get("use_sliding_window"):
        yield "use_sliding_window is set, which a network that sees both sides cannot use"
    layers = raw.get("layer_types")
    if isinstance(layers, list) and any(each != "full_attention" for each in layers):
        other = next(each for each in layers if each != "full_attention")
        yield f"layer_types holds {describe(other)}, only 'full_attention' exists in these architectures"


def _form_problems(raw: Mapping[str, Any], form: Form) -> Iterator[str]:
    """What contradicts the form of the architecture."""
    divided = divide_heads(raw).get("head_dim")
    if divided and (raw.get("head_dim") is None or form.qwen == 2):
        hidden, heads = raw["hidden_size"], raw["num_attention_heads"]
        if hidden % heads:
            yield f"hidden_size {describe(hidden)} is not divisible by num_attention_heads {describe(heads)}"
        if raw.get("head_dim") not in (None, divided):
            yield f"head_dim is {describe(raw['head_dim'])}, not hidden_size / num_attention_heads"
    if form.qwen == 3 and raw.get("attention_bias"):
        yield "attention_bias is set: o_proj would have one too, and no checkpoint of this form has any"


def _open_problems(raw: Mapping[str, Any], architecture: str, form: Form, stated: StatedFacts) -> Iterator[str]:
    """What neither config.json nor the user says."""
    if form.block_field == OPEN and stated.attention is None:
        yield (
            f"it does not tell what its {architecture} attends to: name it with --attention full or, for one that "
            "writes in blocks of 32, --attention block-causal:32"
        )
    elif form.block_field not in (None, OPEN) and raw.get(form.block_field) is None:
        yield f"{form.block_field} is missing"
    if form.shift is None and stated.shift is None:
        yield (
            f"its {architecture} writes from left to right unless it was trained further: if this one was, say with "
            "--shift 1 or --shift 0 whether a row of logits predicts the next token or its own"
        )


def _check_stated(form: Form, stated: StatedFacts, block: int | None) -> None:
    if form.block_field != OPEN and stated.attention is not None and stated.causal_block != block:
        found = "full" if block is None else f"block-causal:{block}"
        raise InvalidOption(
            "attention", stated.attention, f"contradicts the checkpoint, whose attention is {found}: leave it out"
        )
    if form.shift is not None and stated.shift not in (None, form.shift):
        raise InvalidOption("shift", stated.shift, f"contradicts the checkpoint, whose is {form.shift}: leave it out")

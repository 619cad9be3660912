"""The geometry of a network of Dream's family, as its checkpoint's config.json states it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..errors import InvalidConfig
from ..files.json import describe, read_json_object


@dataclass(frozen=True, kw_only=True)
class Form:
    """What an architecture's code says, and its config.json does not."""

    model_type: str
    shift: int
    """1 where the network was made of an autoregressive one whose row i goes on predicting the token at i + 1."""
    attention_bias: bool
    qk_norm: bool
    causal_block: str | None = None
    """The field of config.json that holds the size of its blocks; None for full attention."""


FORMS: Mapping[str, Form] = {
    "DreamModel": Form(model_type="Dream", shift=1, attention_bias=True, qk_norm=False),
    "DreamForCausalLM": Form(
        model_type="Dream", shift=0, attention_bias=False, qk_norm=True, causal_block="block_size"
    ),
}
"""By architecture."""

_LARGEST = 1 << 24  # no dimension of a network that fits a machine comes near this
_MOST_LAYERS = 1 << 12


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Geometry and special ids of a Dream network, as a manifest holds them.

    The geometry comes from config.json. The defaults of the original `DreamConfig` class are not those of any published
    checkpoint, so a missing field is an error, never a guess.

    Raises:
        InvalidConfig: naming every field that is missing, mistyped, out of range or inconsistent.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    """Of queries, keys and values."""
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    attention_bias: bool
    """Whether q, k and v have biases. o has none."""
    qk_norm: bool
    """Whether each head of q and k has an RMSNorm before it is turned by its position."""
    causal_block: int | None
    """None: every position attends to all. A number: to its own block of so many positions and to those before it."""
    mask_token_id: int
    pad_token_id: int
    bos_token_id: int
    eos_token_id: int
    expand_token_id: int | None
    """DreamOn's token that becomes two masks; None where the vocabulary has none."""
    context: int
    """The longest canvas in tokens, at most `max_position_embeddings`."""
    shift: int
    """Row i of the logits predicts the token at position i + `shift`: 1, or 0 for a network that predicts in place."""

    def __post_init__(self) -> None:
        if problems := _type_problems(asdict(self)) or [*self._range_problems()] or [*self._ratio_problems()]:
            raise InvalidConfig("model configuration", problems)

    def _range_problems(self) -> Iterator[str]:
        for name in _SIZES:
            value, largest = getattr(self, name), _MOST_LAYERS if name == "num_hidden_layers" else _LARGEST - 1
            if not 0 < value <= largest:
                yield f"{name} is {describe(value)}, expected 1 to {largest}"
        if self.causal_block is not None and not 0 < self.causal_block <= self.max_position_embeddings:
            yield f"causal_block is {describe(self.causal_block)}, expected 1 to max_position_embeddings"
        for name in (*IDS, "expand_token_id"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < self.vocab_size:
                yield f"{name} is {describe(value)}, outside the vocabulary of {describe(self.vocab_size)}"
        if not 0 < self.rms_norm_eps < 1:
            yield f"rms_norm_eps is {describe(self.rms_norm_eps)}, expected a small positive number"
        if not 1 < self.rope_theta < 1e12:
            yield f"rope_theta is {describe(self.rope_theta)}, expected a number from 1 to 1e12"
        if not 0 < self.context <= self.max_position_embeddings:
            yield f"context is {describe(self.context)}, expected 1 to max_position_embeddings"
        if self.shift not in (0, 1):
            yield f"shift is {describe(self.shift)}, expected 0 or 1"

    def _ratio_problems(self) -> Iterator[str]:
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        if self.head_dim % 2:
            yield f"head_dim is {self.head_dim}, which is odd; rotary embedding needs pairs"
        if heads % kv_heads:
            yield f"num_attention_heads {heads} is not divisible by num_key_value_heads {kv_heads}"

    @property
    def query_size(self) -> int:
        """Width of the query projection, and of what the output projection reads."""
        return self.num_attention_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the key and value projections."""
        return self.num_key_value_heads * self.head_dim

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: Path | str = "config.json") -> ModelConfig:
        """Read the parsed config.json `raw`; `source` is named in errors."""
        raw = {**_rope_parameters(raw), **raw}
        form = _find_form(raw)
        problems = [*_architecture_problems(raw, form)]
        if raw.get("head_dim") is None or (form and not form.qk_norm):  # of Qwen2's form no head has a size of its own
            problems += _head_problems(raw)
            raw |= _divide_heads(raw)
        stated = [field.name for field in fields(cls) if field.name not in _DERIVED]
        values = {name: raw[name] for name in stated if name in raw} | {"expand_token_id": raw.get("expand_token_id")}
        values["causal_block"] = raw.get(form.causal_block) if form and form.causal_block else None
        problems += [f"{name} is missing" for name in stated if name not in raw and name != "head_dim"]
        if form and form.causal_block and values["causal_block"] is None:
            problems.append(f"{form.causal_block} is missing")
        problems += _type_problems(values)
        if problems or form is None:
            raise InvalidConfig(source, problems)
        values |= {"shift": form.shift, "attention_bias": form.attention_bias, "qk_norm": form.qk_norm}
        try:
            config = cls(**values, context=values["max_position_embeddings"])
        except InvalidConfig as error:
            raise InvalidConfig(source, error.problems) from None
        return replace(config, rms_norm_eps=float(config.rms_norm_eps), rope_theta=float(config.rope_theta))

    @classmethod
    def read(cls, path: Path) -> ModelConfig:
        """Read and validate the file `path` (config.json)."""
        return cls.from_dict(read_json_object(path), path)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the manifest holds them."""
        return asdict(self)


_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
IDS = ("mask_token_id", "pad_token_id", "bos_token_id", "eos_token_id")
_DERIVED = ("expand_token_id", "context", "shift", "attention_bias", "qk_norm", "causal_block")
"""Not, or not always, in config.json under these names."""


def _rope_parameters(raw: Mapping[str, Any]) -> dict[str, Any]:
    """rope_theta and rope_type where transformers 5 writes them."""
    parameters = raw.get("rope_parameters")
    if not isinstance(parameters, dict):
        return {}
    return {name: parameters[name] for name in ("rope_theta", "rope_type") if name in parameters}


def add_form_of_dream(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration `values` of a time when every network was of Dream's form and had a head of its own."""
    dream = {"attention_bias": True, "qk_norm": False, "causal_block": None, "tie_word_embeddings": False}
    return {**values, **_divide_heads(values), **dream}


def _find_form(raw: Mapping[str, Any]) -> Form | None:
    """The first form that config.json names among its architectures."""
    architectures = raw.get("architectures")
    named = map(str, architectures) if isinstance(architectures, list) else ()
    return next((FORMS[name] for name in named if name in FORMS), None)


def _divide_heads(raw: Mapping[str, Any]) -> dict[str, Any]:
    """head_dim where nothing states it: the hidden size shared out among the heads."""
    hidden, heads = raw.get("hidden_size"), raw.get("num_attention_heads")
    return {"head_dim": hidden // heads if heads else hidden} if type(hidden) is int and type(heads) is int else {}


def _head_problems(raw: Mapping[str, Any]) -> list[str]:
    """What is wrong with heads that share the hidden size out among them."""
    problems, divided = [], _divide_heads(raw).get("head_dim")
    if divided and raw["hidden_size"] % raw["num_attention_heads"]:
        hidden, heads = describe(raw["hidden_size"]), describe(raw["num_attention_heads"])
        problems.append(f"hidden_size {hidden} is not divisible by num_attention_heads {heads}")
    if divided is not None and raw.get("head_dim") not in (None, divided):
        problems.append(f"head_dim is {describe(raw['head_dim'])}, not hidden_size / num_attention_heads")
    return problems


def _architecture_problems(raw: Mapping[str, Any], form: Form | None) -> list[str]:
    problems = []
    if form is None:
        problems.append(f"architectures is {describe(raw.get('architectures'))}, expected one of {sorted(FORMS)}")
    model_type = [form.model_type] if form else [each.model_type for each in FORMS.values()]
    if raw.get("model_type") not in model_type:
        problems.append(
            f"model_type is {describe(raw.get('model_type'))}, expected {' or '.join(sorted(set(model_type)))}"
        )
    if raw.get("hidden_act", "silu") != "silu":
        problems.append(f"hidden_act is {describe(raw['hidden_act'])}, only 'silu' exists in this architecture")
    if raw.get("rope_scaling") is not None:
        problems.append("rope_scaling is set, which no Dream checkpoint uses")
    if raw.get("rope_type", "default") != "default":
        problems.append(f"rope_parameters is of the type {describe(raw['rope_type'])}, which no Dream checkpoint uses")
    if raw.get("use_sliding_window"):
        problems.append("use_sliding_window is set, which a bidirectional model cannot use")
    return problems


def _type_problems(values: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, value in values.items():
        is_int = isinstance(value, int) and not isinstance(value, bool)
        fits, expected = is_int, "an integer"
        if name in ("tie_word_embeddings", "attention_bias", "qk_norm"):
            fits, expected = isinstance(value, bool), "true or false"
        elif name in ("rms_norm_eps", "rope_theta"):
            fits, expected = is_int or isinstance(value, float), "a number"
        elif name in ("expand_token_id", "causal_block"):
            fits, expected = is_int or value is None, "an integer or null"
        if not fits:
            problems.append(f"{name} is {describe(value)}, expected {expected}")
    return problems

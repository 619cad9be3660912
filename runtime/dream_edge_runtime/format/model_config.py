"""The geometry of a Dream network, as its checkpoint's config.json states it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..errors import InvalidConfig
from ..files.json import describe, read_json_object

MODEL_TYPE = "Dream"
SHIFTS = {"DreamModel": 1}
"""By architecture: initialised from an autoregressive network, whose row i predicts the token at i + 1."""

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
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
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
        hidden, heads, kv_heads = self.hidden_size, self.num_attention_heads, self.num_key_value_heads
        if hidden % heads:
            yield f"hidden_size {hidden} is not divisible by num_attention_heads {heads}"
        elif self.head_dim % 2:
            yield f"the head size {self.head_dim} is odd; rotary embedding needs pairs"
        if heads % kv_heads:
            yield f"num_attention_heads {heads} is not divisible by num_key_value_heads {kv_heads}"

    @property
    def head_dim(self) -> int:
        """Of queries, keys and values."""
        return self.hidden_size // self.num_attention_heads

    @property
    def kv_size(self) -> int:
        """Width of the key and value projections."""
        return self.num_key_value_heads * self.head_dim

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: Path | str = "config.json") -> ModelConfig:
        """Read the parsed config.json `raw`; `source` is named in errors."""
        raw = {**_rope_parameters(raw), **raw}
        problems = [*_architecture_problems(raw)]
        stated = [field.name for field in fields(cls) if field.name not in _DERIVED]
        values = {name: raw[name] for name in stated if name in raw} | {"expand_token_id": raw.get("expand_token_id")}
        problems += [f"{name} is missing" for name in stated if name not in raw]
        problems += _type_problems(values)
        if problems:
            raise InvalidConfig(source, problems)
        shift = next(shift for name, shift in SHIFTS.items() if name in raw["architectures"])
        try:
            config = cls(**values, context=values["max_position_embeddings"], shift=shift)
        except InvalidConfig as error:
            raise InvalidConfig(source, error.problems) from None
        declared = raw.get("head_dim")
        if declared not in (None, config.head_dim):
            raise InvalidConfig(source, [f"head_dim is {describe(declared)}, not hidden_size / num_attention_heads"])
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
    "max_position_embeddings",
)
IDS = ("mask_token_id", "pad_token_id", "bos_token_id", "eos_token_id")
_DERIVED = ("expand_token_id", "context", "shift")  # not, or not always, in config.json


def _rope_parameters(raw: Mapping[str, Any]) -> dict[str, Any]:
    """rope_theta and rope_type where transformers 5 writes them."""
    parameters = raw.get("rope_parameters")
    if not isinstance(parameters, dict):
        return {}
    return {name: parameters[name] for name in ("rope_theta", "rope_type") if name in parameters}


def _architecture_problems(raw: Mapping[str, Any]) -> list[str]:
    problems = []
    if raw.get("model_type") != MODEL_TYPE:
        problems.append(f"model_type is {describe(raw.get('model_type'))}, expected {MODEL_TYPE!r}")
    architectures = raw.get("architectures")
    if not isinstance(architectures, list) or not SHIFTS.keys() & set(map(str, architectures)):
        problems.append(f"architectures is {describe(architectures)}, expected one of {sorted(SHIFTS)}")
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
        if name == "tie_word_embeddings":
            fits, expected = isinstance(value, bool), "true or false"
        elif name in ("rms_norm_eps", "rope_theta"):
            fits, expected = is_int or isinstance(value, float), "a number"
        elif name == "expand_token_id":
            fits, expected = is_int or value is None, "an integer or null"
        if not fits:
            problems.append(f"{name} is {describe(value)}, expected {expected}")
    return problems

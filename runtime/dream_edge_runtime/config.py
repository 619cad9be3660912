"""The geometry of a Dream network, as its checkpoint's config.json states it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .errors import CheckpointNotFound, InvalidConfig

MODEL_TYPE = "Dream"
ARCHITECTURES = frozenset({"DreamModel"})

_LARGEST = 1 << 24  # no dimension of a network that fits a machine comes near this


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Geometry and special ids of a Dream network.

    Every field comes from config.json. The defaults of the original `DreamConfig` class are not those of any published
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

    def __post_init__(self) -> None:
        problems = [*_type_problems(asdict(self))]
        if not problems:
            problems = [*self._range_problems()]
        if problems:
            raise InvalidConfig("model configuration", problems)

    def _range_problems(self) -> list[str]:
        problems = []
        for name in _SIZES:
            if not 0 < getattr(self, name) < _LARGEST:
                problems.append(f"{name} is {getattr(self, name)}, expected 1 to {_LARGEST - 1}")
        for name in _IDS:
            if not 0 <= getattr(self, name) < self.vocab_size:
                problems.append(f"{name} is {getattr(self, name)}, outside the vocabulary of {self.vocab_size}")
        if not 0 < self.rms_norm_eps < 1:
            problems.append(f"rms_norm_eps is {self.rms_norm_eps}, expected a small positive number")
        if not 1 < self.rope_theta < 1e12:
            problems.append(f"rope_theta is {self.rope_theta}, expected a number above 1")
        if problems:
            return problems
        if self.hidden_size % self.num_attention_heads:
            problems.append(
                f"hidden_size {self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}"
            )
        elif self.head_dim % 2:
            problems.append(f"the head size {self.head_dim} is odd; rotary embedding needs pairs")
        if self.num_attention_heads % self.num_key_value_heads:
            problems.append(
                f"num_attention_heads {self.num_attention_heads} is not divisible by "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        return problems

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def kv_size(self) -> int:
        """Width of the key and value projections."""
        return self.num_key_value_heads * self.head_dim

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: Path | str = "config.json") -> ModelConfig:
        """Read the parsed config.json `raw`; `source` is named in errors."""
        problems = [*_architecture_problems(raw)]
        values = {field.name: raw[field.name] for field in fields(cls) if field.name in raw}
        problems += [f"{field.name} is missing" for field in fields(cls) if field.name not in raw]
        problems += _type_problems(values)
        if problems:
            raise InvalidConfig(source, problems)
        for name in ("rms_norm_eps", "rope_theta"):
            values[name] = float(values[name])
        try:
            config = cls(**values)
        except InvalidConfig as error:
            raise InvalidConfig(source, error.problems) from None
        declared = raw.get("head_dim")
        if declared not in (None, config.head_dim):
            raise InvalidConfig(source, [f"head_dim {declared} is not hidden_size / num_attention_heads"])
        return config

    @classmethod
    def read(cls, path: Path) -> ModelConfig:
        """Read and validate the file `path` (config.json)."""
        return cls.from_dict(read_json_object(path), path)

    def to_dict(self) -> dict[str, Any]:
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
_IDS = ("mask_token_id", "pad_token_id", "bos_token_id", "eos_token_id")
_NUMBERS = ("rms_norm_eps", "rope_theta")


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file `path`; `InvalidConfig` when it is anything else, `CheckpointNotFound` when absent."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointNotFound(path.parent, path.name) from None
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(path, [f"not valid JSON ({error})"]) from None
    if not isinstance(value, dict):
        raise InvalidConfig(path, [f"holds a JSON {type(value).__name__}, expected an object"])
    return value


def _architecture_problems(raw: Mapping[str, Any]) -> list[str]:
    problems = []
    if raw.get("model_type") != MODEL_TYPE:
        problems.append(f"model_type is {raw.get('model_type')!r}, expected {MODEL_TYPE!r}")
    architectures = raw.get("architectures")
    if not isinstance(architectures, list) or not ARCHITECTURES.intersection(map(str, architectures)):
        problems.append(f"architectures is {architectures!r}, expected one of {sorted(ARCHITECTURES)}")
    if raw.get("hidden_act", "silu") != "silu":
        problems.append(f"hidden_act is {raw['hidden_act']!r}, only 'silu' exists in this architecture")
    if raw.get("rope_scaling") is not None:
        problems.append("rope_scaling is set, which no Dream checkpoint uses")
    if raw.get("use_sliding_window"):
        problems.append("use_sliding_window is set, which a bidirectional model cannot use")
    return problems


def _type_problems(values: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, value in values.items():
        is_int = isinstance(value, int) and not isinstance(value, bool)
        if name == "tie_word_embeddings":
            fits, expected = isinstance(value, bool), "true or false"
        elif name in _NUMBERS:
            fits, expected = is_int or isinstance(value, float), "a number"
        else:
            fits, expected = is_int, "an integer"
        if not fits:
            problems.append(f"{name} is {value!r}, expected {expected}")
    return problems

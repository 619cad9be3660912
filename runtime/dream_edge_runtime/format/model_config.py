"""The facts of a network of Dream's family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InvalidConfig
from ..files.json import describe

_LARGEST = 1 << 24  # no dimension of a network that fits a machine comes near this
_MOST_LAYERS = 1 << 12


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Geometry, form and special ids of a network, as a manifest holds them.

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
        if problems := type_problems(asdict(self)) or [*self._range_problems()] or [*self._ratio_problems()]:
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
    def attention(self) -> str:
        """As users name it: "full" or "block-causal:32"."""
        return "full" if self.causal_block is None else f"block-causal:{self.causal_block}"

    @property
    def query_size(self) -> int:
        """Width of the query projection, and of what the output projection reads."""
        return self.num_attention_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the key and value projections."""
        return self.num_key_value_heads * self.head_dim

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


def add_form_of_dream(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration `values` of a time when every network was of Dream's form and had a head of its own."""
    dream = {"attention_bias": True, "qk_norm": False, "causal_block": None, "tie_word_embeddings": False}
    return {**values, **divide_heads(values), **dream}


def divide_heads(raw: Mapping[str, Any]) -> dict[str, Any]:
    """head_dim where nothing states it: the hidden size shared out among the heads."""
    hidden, heads = raw.get("hidden_size"), raw.get("num_attention_heads")
    return {"head_dim": hidden // heads if heads else hidden} if type(hidden) is int and type(heads) is int else {}


def type_problems(values: Mapping[str, Any]) -> list[str]:
    """What among the `values` of a configuration is of another type than its field."""
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

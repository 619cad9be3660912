"""What an export does to each matrix: pure data, kept in the manifest; graph, size and memory follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .config import ModelConfig
from .errors import InvalidOption

Scheme = Literal["fp32", "int8", "int4"]
Kind = Literal["float", "row", "block"]

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
BLOCK_SIZES = (16, 32, 64, 128, 256)


@dataclass(frozen=True, kw_only=True)
class WeightFormat:
    """How one matrix [out, in] is stored and multiplied.

    kind:
        "float": fp32.
        "row":   W8A8. One fp32 scale for each output column, weights int8 in [-127, 127]; activations are quantized for
                 each row of the input at run time, so the product is one integer GEMM.
        "block": `bits` bits for groups of `block_size` inputs, one fp16 scale a group, and a zero point a group unless
                 `symmetric` (MatMulNBits; for an embedding GatherBlockQuantized).
    """

    kind: Kind
    bits: int = 32
    block_size: int = 0
    symmetric: bool = True

    def __post_init__(self) -> None:
        if type(self.bits) is not int or type(self.block_size) is not int or type(self.symmetric) is not bool:
            raise TypeError("bits and block_size are integers, symmetric is true or false")
        if self.kind not in get_args(Kind):
            raise InvalidOption("kind", self.kind, f"must be one of {', '.join(get_args(Kind))}")
        allowed = {"float": (32,), "row": (8,), "block": (4, 8)}[self.kind]
        if self.bits not in allowed:
            raise InvalidOption("bits", self.bits, f"must be one of {allowed} for {self.kind} weights")
        if self.kind == "block" and self.block_size not in BLOCK_SIZES:
            raise InvalidOption("block_size", self.block_size, f"must be one of {', '.join(map(str, BLOCK_SIZES))}")
        if self.kind != "block" and (self.block_size or not self.symmetric):
            raise InvalidOption("block_size", self.block_size, f"belongs to block weights, not to {self.kind}")

    def blocks(self, inputs: int) -> int:
        """Groups in a row of `inputs` weights; the last one may be padded."""
        return -(-inputs // self.block_size)

    def stored_bytes(self, outputs: int, inputs: int) -> int:
        """Bytes on disk of an [outputs, inputs] matrix, scales and zero points included."""
        if self.kind == "float":
            return 4 * outputs * inputs
        if self.kind == "row":
            return outputs * inputs + 4 * outputs
        groups = outputs * self.blocks(inputs)
        zero_points = 0 if self.symmetric else outputs * -(-self.blocks(inputs) * self.bits // 8)
        return groups * (self.block_size * self.bits // 8 + 2) + zero_points


FLOAT = WeightFormat(kind="float")
ROW = WeightFormat(kind="row", bits=8)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The formats of a whole artifact: one for the matrices of the layers, one each for embedding and lm_head."""

    scheme: Scheme
    body: WeightFormat
    embedding: WeightFormat
    lm_head: WeightFormat
    rounding: str = "rtn"

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise InvalidOption("scheme", self.scheme, f"must be one of {', '.join(SCHEMES)}")
        if not isinstance(self.rounding, str):
            raise TypeError("rounding is a name")
        if self.embedding.kind == "row":
            raise InvalidOption("embedding", self.embedding.kind, "is looked up, not multiplied: use block or float")

    @classmethod
    def for_scheme(cls, scheme: str, *, block_size: int | None = None) -> Recipe:
        """The default recipe of a scheme. `block_size` overrides the groups of the 4-bit matrices."""
        if block_size is not None and scheme != "int4":
            raise InvalidOption("block_size", block_size, f"belongs to scheme int4; {scheme} has no groups to size")
        eight_bit = WeightFormat(kind="block", bits=8, block_size=128)
        if scheme == "fp32":
            return cls(scheme="fp32", body=FLOAT, embedding=FLOAT, lm_head=FLOAT)
        if scheme == "int8":
            return cls(scheme="int8", body=ROW, embedding=eight_bit, lm_head=ROW)
        if scheme == "int4":
            four_bit = WeightFormat(
                kind="block", bits=4, block_size=128 if block_size is None else block_size, symmetric=False
            )
            return cls(scheme="int4", body=four_bit, embedding=eight_bit, lm_head=eight_bit)
        raise InvalidOption("scheme", scheme, f"must be one of {', '.join(SCHEMES)}")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Recipe:
        """Rebuild a recipe from a manifest; `InvalidOption` or `TypeError` when it does not fit this version."""
        values = dict(raw)
        for part in ("body", "embedding", "lm_head"):
            values[part] = WeightFormat(**values[part])
        return cls(**values)

    def format_of(self, matrix: str) -> WeightFormat:
        """The format of a checkpoint matrix, e.g. "model.layers.0.mlp.up_proj"."""
        return {"model.embed_tokens": self.embedding, "lm_head": self.lm_head}.get(matrix, self.body)

    def stored_bytes(self, config: ModelConfig) -> int:
        """Bytes of all weights of an artifact, without alignment and graph."""
        matrices = matrix_shapes(config)
        quantized = sum(self.format_of(name).stored_bytes(*shape) for name, shape in matrices.items())
        return quantized + 4 * sum(vector_sizes(config).values())

    def bits_per_weight(self, config: ModelConfig) -> float:
        """Stored bits of the average parameter."""
        return 8 * self.stored_bytes(config) / parameter_count(config)


def matrix_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Every matrix of the network in the order data meets it: name → (outputs, inputs)."""
    hidden, kv, inner = config.hidden_size, config.kv_size, config.intermediate_size
    shapes = {"model.embed_tokens": (config.vocab_size, hidden)}
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}"
        shapes |= {
            f"{layer}.self_attn.q_proj": (hidden, hidden),
            f"{layer}.self_attn.k_proj": (kv, hidden),
            f"{layer}.self_attn.v_proj": (kv, hidden),
            f"{layer}.self_attn.o_proj": (hidden, hidden),
            f"{layer}.mlp.gate_proj": (inner, hidden),
            f"{layer}.mlp.up_proj": (inner, hidden),
            f"{layer}.mlp.down_proj": (hidden, inner),
        }
    return shapes | {"lm_head": (config.vocab_size, hidden)}


def vector_sizes(config: ModelConfig) -> dict[str, int]:
    """Every bias and norm of the network: tensor name → length."""
    sizes: dict[str, int] = {}
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}"
        sizes |= {
            f"{layer}.input_layernorm.weight": config.hidden_size,
            f"{layer}.self_attn.q_proj.bias": config.hidden_size,
            f"{layer}.self_attn.k_proj.bias": config.kv_size,
            f"{layer}.self_attn.v_proj.bias": config.kv_size,
            f"{layer}.post_attention_layernorm.weight": config.hidden_size,
        }
    return sizes | {"model.norm.weight": config.hidden_size}


def parameter_count(config: ModelConfig) -> int:
    """Weights that an artifact of this geometry stores; a tied lm_head counts, since it is stored by itself."""
    matrices = sum(rows * columns for rows, columns in matrix_shapes(config).values())
    return matrices + sum(vector_sizes(config).values())

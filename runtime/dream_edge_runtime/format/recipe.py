"""What an export does to each matrix: pure data, kept in the manifest; graphs, size and memory follow from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Literal, get_args

from ..errors import InvalidOption
from .model_config import ModelConfig
from .tensors import (
    EMBEDDING,
    LM_HEAD,
    layer_name,
    matrix_groups,
    matrix_shapes,
    parameter_count,
    stored_shapes,
    vector_sizes,
)

Scheme = Literal["fp32", "fp16", "int8", "int4", "mixed", "nf4"]
Target = Literal["cpu", "cuda"]
Kind = Literal["float", "row", "block", "nf4"]

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
TARGETS: tuple[Target, ...] = get_args(Target)
BLOCK_SIZES = (16, 32, 64, 128, 256)

# Dettmers et al., "QLoRA" (arXiv 2305.14314), appendix E: quantiles of the normal distribution, scaled to [-1, 1].
NF4_VALUES = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip

_BITS = {"float": (32, 16), "row": (8,), "block": (4, 8), "nf4": (4,)}


def _check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    if value not in choices:
        raise InvalidOption(name, value, f"must be one of {', '.join(map(str, choices))}")


@dataclass(frozen=True, kw_only=True)
class WeightFormat:
    """How one matrix [out, in] is stored and multiplied.

    kind:
        "float": fp32 or fp16, [out, in].
        "row":   W8A8. One fp32 scale for each output column, weights int8 in [-127, 127]; activations are quantized for
                 each row of the input at run time, so the product is one integer GEMM. CPU only. It is stored [in, out]
                 as it is multiplied, a `table` [out, in], so that its rows can be looked up as well; it is turned round
                 when it is loaded.
        "block": `bits` bits for groups of `block_size` inputs, one fp16 scale a group, and a zero point a group unless
                 `symmetric` (MatMulNBits; for an embedding GatherBlockQuantized).
        "nf4":   bitsandbytes' NormalFloat: 4-bit codes into a table of 16 values, one fp32 absmax for each `block_size`
                 weights, counted through the whole matrix row by row (MatMulBnb4; Dettmers et al., "QLoRA", arXiv
                 2305.14314, section 3).
    """

    kind: Kind
    bits: int = 32
    block_size: int = 0
    symmetric: bool = True
    table: bool = False

    def __post_init__(self) -> None:
        if type(self.bits) is not int or type(self.block_size) is not int:
            raise TypeError("bits and block_size are integers")
        if type(self.symmetric) is not bool or type(self.table) is not bool:
            raise TypeError("symmetric and table are true or false")
        _check_choice("kind", self.kind, get_args(Kind))
        if self.bits not in _BITS[self.kind]:
            raise InvalidOption("bits", self.bits, f"must be one of {_BITS[self.kind]} for {self.kind} weights")
        if self.has_blocks:
            _check_choice("block_size", self.block_size, BLOCK_SIZES)
        elif self.block_size:
            raise InvalidOption("block_size", self.block_size, f"belongs to block weights, not to {self.kind}")
        if self.kind != "block" and not self.symmetric:
            raise InvalidOption("symmetric", self.symmetric, f"belongs to block weights, not to {self.kind}")
        if self.kind != "row" and self.table:
            raise InvalidOption("table", self.table, f"belongs to row weights, not to {self.kind}")

    @property
    def has_blocks(self) -> bool:
        """Whether scales are of groups of weights rather than of whole columns."""
        return self.kind in ("block", "nf4")

    @property
    def joins(self) -> bool:
        """Whether it keeps outputs one after the other, so that matrices that lie together are one matrix."""
        return self.kind != "row" or self.table

    def blocks(self, inputs: int) -> int:
        """Groups in a row of `inputs` weights; the last one may be padded."""
        return -(-inputs // self.block_size)

    def stored_bytes(self, outputs: int, inputs: int) -> int:
        """Bytes on disk of an [outputs, inputs] matrix, scales and zero points included."""
        if self.kind == "float":
            return self.bits // 8 * outputs * inputs
        if self.kind == "row":
            return outputs * inputs + 4 * outputs
        if self.kind == "nf4":
            return outputs * inputs // 2 + 4 * self.blocks(outputs * inputs)
        groups = outputs * self.blocks(inputs)
        zero_points = 0 if self.symmetric else outputs * -(-self.blocks(inputs) * self.bits // 8)
        return groups * (self.block_size * self.bits // 8 + 2) + zero_points


FLOAT = WeightFormat(kind="float")
HALF = WeightFormat(kind="float", bits=16)
ROW = WeightFormat(kind="row", bits=8)
TABLE = replace(ROW, table=True)


@dataclass(frozen=True, kw_only=True)
class Formats:
    """The formats of one graph: for embedding, lm_head and the matrices of the layers, some of which may differ.

    overrides: matrices of the layers that are stored otherwise than `body`, by name.
    """

    body: WeightFormat
    embedding: WeightFormat
    lm_head: WeightFormat
    overrides: Mapping[str, WeightFormat] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.embedding.kind not in ("block", "float") and self.embedding != TABLE:
            raise InvalidOption("embedding", self.embedding.kind, "is looked up: use block, float or a table of rows")
        if not self.embedding.symmetric or self.embedding.bits == 4:
            raise InvalidOption("embedding", self.embedding.bits, "is stored symmetric and in 8 bits or as floats")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Formats:
        """Rebuild from a manifest; `InvalidOption`, `TypeError` or `KeyError` when it does not fit this version."""
        values = dict(raw)
        for part in ("body", "embedding", "lm_head"):
            values[part] = WeightFormat(**values[part])
        values["overrides"] = {name: WeightFormat(**format_) for name, format_ in values["overrides"].items()}
        return cls(**values)

    def of(self, matrix: str) -> WeightFormat:
        """The format of a checkpoint matrix, e.g. "model.layers.0.mlp.up_proj"."""
        if matrix == EMBEDDING:
            return self.embedding
        return self.lm_head if matrix == LM_HEAD else self.overrides.get(matrix, self.body)

    def products(self, group: Sequence[str], joined: bool) -> list[tuple[str, ...]]:
        """`group`, matrices that read the same inputs, as a graph multiplies them: if `joined`, neighbours are one."""
        runs = groupby(group, lambda name: (self.of(name), None if joined and self.of(name).joins else name))
        return [tuple(run) for _, run in runs]

    def stored_bytes(self, config: ModelConfig) -> int:
        """Bytes of all weights of this graph, without alignment."""
        matrices = stored_shapes(config)
        return _vector_bytes(config) + sum(self.of(name).stored_bytes(*shape) for name, shape in matrices.items())

    def bits_per_weight(self, config: ModelConfig) -> float:
        """Stored bits of the average parameter."""
        return 8 * self.stored_bytes(config) / parameter_count(config)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The formats of a whole artifact, by target; graphs share a stored matrix where their formats for it agree."""

    scheme: Scheme
    """Its name: int8, int4, …"""
    targets: Mapping[Target, Formats]
    """For each target, how its graph stores each matrix."""
    rounding: str = "rtn"
    joined: bool = False
    """Whether matrices that read the same inputs, in one format, lie together and are multiplied as one.

    False in artifacts of schemas before 1.2.
    """

    def __post_init__(self) -> None:
        _check_choice("scheme", self.scheme, SCHEMES)
        if not self.targets or not set(self.targets) <= set(TARGETS):
            raise InvalidOption("target", ", ".join(self.targets), f"must be one of {', '.join(TARGETS)}")
        if not isinstance(self.rounding, str):
            raise TypeError("rounding is a name")
        if type(self.joined) is not bool:
            raise TypeError("joined is true or false")
        cuda = self.targets.get("cuda")
        on_cuda = (cuda.body, cuda.embedding, cuda.lm_head, *cuda.overrides.values()) if cuda else ()
        if any(each.kind == "row" for each in on_cuda):
            raise InvalidOption("kind", "row", "runs on the CPU only")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Recipe:
        """Rebuild from a manifest; `InvalidOption`, `TypeError` or `KeyError` when it does not fit this version."""
        values = dict(raw)
        values["targets"] = {target: Formats.from_dict(formats) for target, formats in values["targets"].items()}
        return cls(**values)

    @classmethod
    def for_scheme(
        cls,
        scheme: str,
        *,
        target: str = "cpu",
        block_size: int | None = None,
        symmetric: bool | None = None,
        layers: int | None = None,
    ) -> Recipe:
        """The default recipe of a scheme.

        Args:
            target: "cpu", "cuda" or "all".
            block_size: weights in a group of the 4-bit matrices, for every target. The defaults are those of the
                fastest kernels: 128 on the CPU, 32 on CUDA; 64 for nf4, as bitsandbytes has it.
            symmetric: whether the groups of 4-bit matrices do without zero points; None = on CUDA only.
            layers: of the network; "mixed" needs to know.

        Raises: InvalidOption.
        """
        _check_choice("target", target, (*TARGETS, "all"))
        _check_choice("scheme", scheme, SCHEMES)
        if scheme == "fp32" and target != "cpu":
            raise InvalidOption("target", target, "does not go with fp32, as CUDA graphs compute in fp16: use fp16")
        has_groups = scheme in ("int4", "mixed", "nf4")
        if block_size is not None and not has_groups:
            raise InvalidOption("block_size", block_size, f"belongs to 4-bit schemes; {scheme} has no groups to size")
        if symmetric is not None and scheme not in ("int4", "mixed"):
            raise InvalidOption("symmetric", symmetric, f"belongs to int4 and mixed; {scheme} has no zero points")
        chosen = TARGETS if target == "all" else [each for each in TARGETS if each == target]
        formats = {each: _formats(scheme, each, block_size, symmetric) for each in chosen}
        if scheme == "mixed":
            if layers is None:
                raise TypeError("a mixed recipe depends on the number of layers")
            formats = {each: _with_sensitive(formats[each], each, layers) for each in formats}
        return cls(scheme=scheme, targets=formats, joined=True)  # type: ignore[arg-type]  # checked above

    def fit(self, config: ModelConfig) -> Recipe:
        """This recipe for a network of `config`: an lm_head that is the embedding is one matrix, stored as lm_head."""

        def tie(formats: Formats) -> Formats:
            shared = TABLE if formats.lm_head == ROW else formats.lm_head
            return replace(formats, embedding=shared, lm_head=shared)

        if not config.tie_word_embeddings:
            return self
        return replace(self, targets={target: tie(formats) for target, formats in self.targets.items()})

    def check(self, config: ModelConfig) -> None:
        """Raises InvalidOption where the recipe does not fit a network of this geometry."""
        shapes = matrix_shapes(config)
        for target, formats in self.targets.items():
            width, embedding = config.hidden_size, formats.embedding
            if config.tie_word_embeddings and embedding != formats.lm_head:
                raise InvalidOption("lm_head", formats.lm_head.kind, "is the embedding here: store both in one format")
            is_whole = config.tie_word_embeddings or target == "cuda"  # where ONNX Runtime counts through the table
            if is_whole and embedding.has_blocks and width % embedding.block_size:
                remedy = f"is the group of an embedding, whose width is {width}: use fp16, or --target cpu"
                raise InvalidOption("block_size", embedding.block_size, remedy)
            for name in formats.overrides:
                if name not in shapes or name in (EMBEDDING, LM_HEAD):
                    raise InvalidOption("overrides", name, "is not a matrix of the layers")
            for name, (_, inputs) in shapes.items():
                weights = formats.of(name)
                if weights.kind == "nf4" and inputs % weights.block_size:
                    remedy = f"does not divide the {inputs} inputs of {name}, as nf4 needs: use another"
                    raise InvalidOption("block_size", weights.block_size, remedy)

    def stored_matrices(self, config: ModelConfig) -> Iterator[tuple[tuple[str, ...], WeightFormat]]:
        """Every matrix that the artifact stores, with those beside which it lies, in the order data meets them.

        It comes twice where two graphs' formats differ.
        """
        formats = [self.targets[target] for target in TARGETS if target in self.targets]
        stored_names = stored_shapes(config)
        for group in matrix_groups(config):
            group = [name for name in group if name in stored_names]
            for names in [group] if self.joined else [[name] for name in group]:
                for format_ in dict.fromkeys(each.of(name) for name in names for each in formats):
                    stored = [name for name in names if any(each.of(name) == format_ for each in formats)]
                    yield from ((tuple(stored), format_),) if format_.joins else (((name,), format_) for name in stored)

    def stored_bytes(self, config: ModelConfig) -> int:
        """Bytes of all weights of the artifact, without alignment and graphs."""
        shapes = matrix_shapes(config)
        matrices = ((name, format_) for names, format_ in self.stored_matrices(config) for name in names)
        return _vector_bytes(config) + sum(format_.stored_bytes(*shapes[name]) for name, format_ in matrices)


def _formats(scheme: str, target: Target, block_size: int | None, symmetric: bool | None) -> Formats:
    on_cuda = target == "cuda"
    if scheme in ("fp32", "fp16"):
        weights = HALF if scheme == "fp16" else FLOAT
        return Formats(body=weights, embedding=weights, lm_head=weights)
    embedding = WeightFormat(kind="block", bits=8, block_size=128)
    # processors multiply 8 bits by row twice as fast as in groups, at no more loss; of groups CUDA multiplies those of
    # 32 as they are, and expands others to fp16 in each pass
    eight_bit = replace(embedding, block_size=32) if on_cuda else ROW
    if scheme == "int8":
        body = eight_bit
    elif scheme == "nf4":
        body = WeightFormat(kind="nf4", bits=4, block_size=64 if block_size is None else block_size)
    else:
        body = WeightFormat(
            kind="block",
            bits=4,
            block_size=(32 if on_cuda else 128) if block_size is None else block_size,
            symmetric=on_cuda if symmetric is None else symmetric,
        )
    return Formats(body=body, embedding=embedding, lm_head=eight_bit)


def _with_sensitive(formats: Formats, target: Target, layers: int) -> Formats:
    """The standard rule of mixed precision: value and down projections of about half the layers in 8 bits.

    Which layers is llama.cpp's rule for its K_M formats: the first and the last eighth and every third between.
    """
    eight_bit = WeightFormat(kind="block", bits=8, block_size=32 if target == "cuda" else 128)
    eighth = layers // 8
    chosen = [
        index for index in range(layers) if index < eighth or index >= 7 * layers // 8 or (index - eighth) % 3 == 2
    ]
    names = [f"{layer_name(index)}.{part}" for index in chosen for part in ("self_attn.v_proj", "mlp.down_proj")]
    return replace(formats, overrides=dict.fromkeys(names, eight_bit))


def _vector_bytes(config: ModelConfig) -> int:
    return 4 * sum(vector_sizes(config).values())

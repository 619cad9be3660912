"""Matrix products and lookups, one module a weight format.

Inputs of products are [tokens, in] in the activations' type: fp32, or fp16 in a graph for CUDA. A product without a
bias has that type too; with one it is fp32, since Qwen2's key biases are so large that fp16 would blur them.

The types of Microsoft's operators are not inferred by the builder, so they are stated here; without them it would guard
every constant that meets such a value with a conversion.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript import nn

from dream_edge_runtime.format.recipe import WeightFormat
from dream_edge_runtime.graph.signature import ACTIVATION_LEVELS, ACTIVATION_ZERO_POINT, EIGHT_BITS

MICROSOFT = "com.microsoft"

# MatMulNBits: 4 = quantize activations to int8 for each group, the fast kernels; anything less multiplies in fp32.
INT8_ACTIVATIONS = 4
NF4 = 1  # MatMulBnb4's quant_type; 0 is FP4


class Activations:
    """A value [tokens, in] on its way into one or more products; quantized for each row at most once, when one asks."""

    def __init__(self, value: ir.Value) -> None:
        self.value = value
        self._rows: tuple[ir.Value, ir.Value] | None = None

    def quantized_rows(self, op: Any) -> tuple[ir.Value, ir.Value]:
        """u8 [tokens, in], and fp32 [tokens, 1]: the largest magnitude of each row / 127 (see contract: levels)."""
        if self._rows is None:
            levels, zero = rounding(op)
            highest = op.ReduceMax(self.value, [-1], keepdims=0)
            lowest = op.ReduceMin(self.value, [-1], keepdims=0)
            largest = op.Max(highest, op.Neg(lowest))
            scale = op.Max(op.Div(largest, levels), 1e-30)  # a row of zeros must not divide by zero
            zero_point = op.Expand(zero, op.Shape(scale))
            self._rows = op.QuantizeLinear(self.value, scale, zero_point, axis=0), op.Unsqueeze(scale, [-1])
        return self._rows


def rounding(op: Any) -> tuple[ir.Value, ir.Value]:
    """The constants of W8A8 activations, one of each in a graph, by name so that the runtime can replace them."""
    constants = op.builder.graph.initializers
    if ACTIVATION_LEVELS not in constants:
        levels, zero_point = EIGHT_BITS
        op.builder.initializer(ir.tensor(levels, dtype=ir.DataType.FLOAT), ACTIVATION_LEVELS, qualify=False)
        op.builder.initializer(ir.tensor(zero_point, dtype=ir.DataType.UINT8), ACTIVATION_ZERO_POINT, qualify=False)
    return constants[ACTIVATION_LEVELS], constants[ACTIVATION_ZERO_POINT]


class Linear(nn.Module):
    """y = x Wᵀ + b; how W is stored and multiplied is the subclass's."""

    def __init__(self, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter([outputs]) if bias else None

    def forward(self, op: Any, x: Activations) -> ir.Value:
        product = self.multiply(op, x)
        return product if self.bias is None else op.Add(as_type(op, product, ir.DataType.FLOAT), self.bias)

    def multiply(self, op: Any, x: Activations) -> ir.Value:
        raise NotImplementedError


class FloatLinear(Linear):
    """The weights as they are, [out, in]."""

    def __init__(self, outputs: int, inputs: int, *, weights: WeightFormat, bias: bool) -> None:
        super().__init__(outputs, bias=bias)
        self.weight = nn.Parameter([outputs, inputs], dtype=float_type(weights))

    def multiply(self, op: Any, x: Activations) -> ir.Value:
        return op.Gemm(x.value, as_type(op, self.weight, x.value.dtype), transB=1)


class RowLinear(Linear):
    """W8A8: int8 weights [in, out] with a scale for each output, u8 activations with a scale for each row.

    The integer product is exact; it is scaled by output inside the operator and by row after it.
    """

    def __init__(self, outputs: int, inputs: int, *, bias: bool) -> None:
        super().__init__(outputs, bias=bias)
        self.weight = nn.Parameter([inputs, outputs], dtype=ir.DataType.INT8)
        self.scales = nn.Parameter([outputs])

    def multiply(self, op: Any, x: Activations) -> ir.Value:
        quantized, row_scale = x.quantized_rows(op)
        product = op.MatMulIntegerToFloat(
            quantized,
            self.weight,
            1.0,
            self.scales,
            rounding(op)[1],
            _domain=MICROSOFT,
            _version=1,
        )
        product.dtype = ir.DataType.FLOAT
        return op.Mul(product, row_scale)


class BlockLinear(Linear):
    """Weight-only 4 or 8 bits in groups along the input (MatMulNBits)."""

    def __init__(self, outputs: int, inputs: int, *, weights: WeightFormat, bias: bool) -> None:
        super().__init__(outputs, bias=bias)
        self.outputs, self.inputs, self.format = outputs, inputs, weights
        blocks, bytes_per_block = weights.blocks(inputs), weights.block_size * weights.bits // 8
        self.weight = nn.Parameter([outputs, blocks, bytes_per_block], dtype=ir.DataType.UINT8)
        self.scales = nn.Parameter([outputs, blocks], dtype=ir.DataType.FLOAT16)
        self.zero_points = None
        if not weights.symmetric:
            self.zero_points = nn.Parameter([outputs, -(-blocks * weights.bits // 8)], dtype=ir.DataType.UINT8)

    def multiply(self, op: Any, x: Activations) -> ir.Value:
        in_float = x.value.dtype == ir.DataType.FLOAT
        product = op.MatMulNBits(
            x.value,
            self.weight,
            as_type(op, self.scales, x.value.dtype),  # folded when the graph is loaded
            self.zero_points,
            K=self.inputs,
            N=self.outputs,
            bits=self.format.bits,
            block_size=self.format.block_size,
            **({"accuracy_level": INT8_ACTIVATIONS} if in_float else {}),
            _domain=MICROSOFT,
            _version=1,
        )
        product.dtype = x.value.dtype
        return product


class NF4Linear(Linear):
    """bitsandbytes' NormalFloat (MatMulBnb4): its codes and its absmax as they are."""

    def __init__(self, outputs: int, inputs: int, *, weights: WeightFormat, bias: bool) -> None:
        super().__init__(outputs, bias=bias)
        self.outputs, self.inputs, self.format = outputs, inputs, weights
        self.weight = nn.Parameter([outputs * inputs // 2], dtype=ir.DataType.UINT8)
        self.absmax = nn.Parameter([weights.blocks(outputs * inputs)])

    def multiply(self, op: Any, x: Activations) -> ir.Value:
        product = op.MatMulBnb4(
            x.value,
            self.weight,
            as_type(op, self.absmax, x.value.dtype),
            K=self.inputs,
            N=self.outputs,
            block_size=self.format.block_size,
            quant_type=NF4,
            _domain=MICROSOFT,
            _version=1,
        )
        product.dtype = x.value.dtype
        return product


class FloatEmbedding(nn.Module):
    """Rows of fp32 or fp16; the latter are widened after they are looked up, so that the table stays small."""

    def __init__(self, rows: int, width: int, *, weights: WeightFormat) -> None:
        super().__init__()
        self.weight = nn.Parameter([rows, width], dtype=float_type(weights))

    def forward(self, op: Any, ids: ir.Value) -> ir.Value:
        return as_type(op, op.Gather(self.weight, ids, axis=0), ir.DataType.FLOAT)


class BlockEmbedding(nn.Module):
    """Rows of 8-bit groups, expanded as they are looked up (GatherBlockQuantized).

    An id outside the table would silently give zeros there: the runtime checks ids first.
    """

    def __init__(self, rows: int, width: int, *, weights: WeightFormat) -> None:
        super().__init__()
        self.format = weights
        self.weight = nn.Parameter([rows, width], dtype=ir.DataType.UINT8)
        self.scales = nn.Parameter([rows, weights.blocks(width)], dtype=ir.DataType.FLOAT16)

    def forward(self, op: Any, ids: ir.Value) -> ir.Value:
        rows = op.GatherBlockQuantized(
            self.weight,
            ids,
            op.Cast(self.scales, to=ir.DataType.FLOAT),
            bits=self.format.bits,
            block_size=self.format.block_size,
            gather_axis=0,
            quantize_axis=1,
            _domain=MICROSOFT,
            _version=1,
        )
        rows.dtype = ir.DataType.FLOAT
        return rows


def linear(weights: WeightFormat, outputs: int, inputs: int, *, bias: bool = False) -> Linear:
    """The module that multiplies by an [outputs, inputs] matrix stored as `weights` says."""
    if weights.kind == "float":
        return FloatLinear(outputs, inputs, weights=weights, bias=bias)
    if weights.kind == "row":
        return RowLinear(outputs, inputs, bias=bias)
    if weights.kind == "nf4":
        return NF4Linear(outputs, inputs, weights=weights, bias=bias)
    return BlockLinear(outputs, inputs, weights=weights, bias=bias)


def embedding(weights: WeightFormat, rows: int, width: int) -> nn.Module:
    """The module that looks rows up, as fp32, in a [rows, width] table stored as `weights` says."""
    if weights.kind == "float":
        return FloatEmbedding(rows, width, weights=weights)
    return BlockEmbedding(rows, width, weights=weights)


def as_type(op: Any, value: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    """`value`, converted if it has another type."""
    return value if value.dtype == dtype else op.Cast(value, to=dtype)


def float_type(weights: WeightFormat) -> ir.DataType:
    return ir.DataType.FLOAT if weights.bits == 32 else ir.DataType.FLOAT16

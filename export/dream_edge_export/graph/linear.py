"""Matrix products and lookups, one module a weight format. Activations are fp32 [tokens, in].

The types of Microsoft's operators are not inferred by the builder, so they are stated here; without them it would guard
every constant that meets such a value with a conversion.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript import nn

from dream_edge_runtime.recipe import WeightFormat

MICROSOFT = "com.microsoft"

# MatMulNBits: 4 = quantize activations to int8 for each group, the fast kernels; anything less multiplies in fp32.
INT8_ACTIVATIONS = 4


class Activations:
    """A value [tokens, in] on its way into one or more products; quantized for each row at most once, when one asks."""

    def __init__(self, value: ir.Value) -> None:
        self.value = value
        self._rows: tuple[ir.Value, ir.Value] | None = None

    def quantized_rows(self, op: Any) -> tuple[ir.Value, ir.Value]:
        """u8 [tokens, in] with zero point 128, and fp32 [tokens, 1]: the largest magnitude of each row / 127."""
        if self._rows is None:
            highest = op.ReduceMax(self.value, [-1], keepdims=0)
            lowest = op.ReduceMin(self.value, [-1], keepdims=0)
            largest = op.Max(highest, op.Neg(lowest))
            scale = op.Max(op.Div(largest, 127.0), 1e-30)  # a row of zeros must not divide by zero
            zero_point = op.Expand(op.Constant(value=ir.tensor(128, dtype=ir.DataType.UINT8)), op.Shape(scale))
            self._rows = op.QuantizeLinear(self.value, scale, zero_point, axis=0), op.Unsqueeze(scale, [-1])
        return self._rows


class FloatLinear(nn.Module):
    """y = x Wᵀ + b in fp32; the weight is stored transposed, [in, out], as the GEMM wants it."""

    def __init__(self, outputs: int, inputs: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter([inputs, outputs])
        self.bias = nn.Parameter([outputs]) if bias else None

    def forward(self, op: Any, x: Activations) -> ir.Value:
        return _add_bias(op, op.MatMul(x.value, self.weight), self.bias)


class RowLinear(nn.Module):
    """W8A8: int8 weights [in, out] with a scale for each output, u8 activations with a scale for each row.

    The integer product is exact; it is scaled by output inside the operator and by row after it.
    """

    def __init__(self, outputs: int, inputs: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter([inputs, outputs], dtype=ir.DataType.INT8)
        self.scales = nn.Parameter([outputs])
        self.bias = nn.Parameter([outputs]) if bias else None

    def forward(self, op: Any, x: Activations) -> ir.Value:
        quantized, row_scale = x.quantized_rows(op)
        product = op.MatMulIntegerToFloat(
            quantized,
            self.weight,
            1.0,
            self.scales,
            op.Constant(value=ir.tensor(128, dtype=ir.DataType.UINT8)),
            _domain=MICROSOFT,
            _version=1,
        )
        product.dtype = ir.DataType.FLOAT
        return _add_bias(op, op.Mul(product, row_scale), self.bias)


class BlockLinear(nn.Module):
    """Weight-only 4 or 8 bits in groups along the input (MatMulNBits)."""

    def __init__(self, outputs: int, inputs: int, *, weights: WeightFormat, bias: bool) -> None:
        super().__init__()
        self.outputs, self.inputs, self.format = outputs, inputs, weights
        blocks, bytes_per_block = weights.blocks(inputs), weights.block_size * weights.bits // 8
        self.weight = nn.Parameter([outputs, blocks, bytes_per_block], dtype=ir.DataType.UINT8)
        self.scales = nn.Parameter([outputs, blocks], dtype=ir.DataType.FLOAT16)
        self.zero_points = None
        if not weights.symmetric:
            self.zero_points = nn.Parameter([outputs, -(-blocks * weights.bits // 8)], dtype=ir.DataType.UINT8)
        self.bias = nn.Parameter([outputs]) if bias else None

    def forward(self, op: Any, x: Activations) -> ir.Value:
        product = op.MatMulNBits(
            x.value,
            self.weight,
            op.Cast(self.scales, to=ir.DataType.FLOAT),  # folded when the graph is loaded
            self.zero_points,
            K=self.inputs,
            N=self.outputs,
            bits=self.format.bits,
            block_size=self.format.block_size,
            accuracy_level=INT8_ACTIVATIONS,
            _domain=MICROSOFT,
            _version=1,
        )
        product.dtype = ir.DataType.FLOAT
        return _add_bias(op, product, self.bias)


class FloatEmbedding(nn.Module):
    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter([rows, width])

    def forward(self, op: Any, ids: ir.Value) -> ir.Value:
        return op.Gather(self.weight, ids, axis=0)


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


def linear(weights: WeightFormat, outputs: int, inputs: int, *, bias: bool = False) -> nn.Module:
    """The module that multiplies by an [outputs, inputs] matrix stored as `weights` says."""
    if weights.kind == "float":
        return FloatLinear(outputs, inputs, bias=bias)
    if weights.kind == "row":
        return RowLinear(outputs, inputs, bias=bias)
    return BlockLinear(outputs, inputs, weights=weights, bias=bias)


def embedding(weights: WeightFormat, rows: int, width: int) -> nn.Module:
    """The module that looks rows up in a [rows, width] table stored as `weights` says."""
    return FloatEmbedding(rows, width) if weights.kind == "float" else BlockEmbedding(rows, width, weights=weights)


def _add_bias(op: Any, value: ir.Value, bias: nn.Parameter | None) -> ir.Value:
    return value if bias is None else op.Add(value, bias)

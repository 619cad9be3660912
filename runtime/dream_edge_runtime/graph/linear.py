"""Matrix products and lookups: one function for each way in which a matrix is stored.

Inputs of products are [tokens, in] in the activations' type: fp32, or fp16 in a graph for CUDA. A product without a
bias has that type too; with one it is fp32, since Qwen2's key biases are so large that fp16 would blur them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..format.recipe import WeightFormat
from .op import Op, Value
from .signature import EIGHT_BITS, rounding_constants

INT8_ACTIVATIONS = 4
"""MatMulNBits' accuracy_level: quantize activations to int8 for each group, the fast kernels; less is fp32."""
NF4 = 1
"""MatMulBnb4's quant_type; 0 is FP4."""


@dataclass
class Activations:
    """A value [tokens, in] on its way into one or more products; quantized by row at most once, when one asks."""

    value: Value
    _rows: tuple[Value, Value] | None = field(default=None, init=False)

    def quantize(self, op: Op) -> tuple[Value, Value]:
        """u8 [tokens, in], and fp32 [tokens, 1]: the largest magnitude of each row / 127."""
        if self._rows is None:
            levels, zero = declare_rounding(op)
            highest = op.ReduceMax(self.value, [-1], keepdims=0)
            lowest = op.ReduceMin(self.value, [-1], keepdims=0)
            largest = op.Max(highest, op.Neg(lowest))
            scale = op.Max(op.Div(largest, levels), 1e-30)  # a row of zeros must not divide by zero
            zero_point = op.Expand(zero, op.Shape(scale))
            self._rows = op.QuantizeLinear(self.value, scale, zero_point, axis=0), op.Unsqueeze(scale, [-1])
        return self._rows


def declare_rounding(op: Op) -> tuple[Value, Value]:
    """The constants of W8A8 activations, by name so that they can be replaced."""
    levels, zero_point = (op.constant(array, name) for name, array in rounding_constants(*EIGHT_BITS).items())
    return levels, zero_point


@dataclass(frozen=True)
class Linear:
    """y = x Wᵀ + b, for the matrix `name` [outputs, inputs]; `weights` says how it is stored and multiplied."""

    op: Op
    name: str
    weights: WeightFormat
    outputs: int
    inputs: int
    bias: bool = False

    def __call__(self, x: Activations) -> Value:
        op = self.op
        multiply = {"float": self._multiply_float, "row": self._multiply_rows, "nf4": self._multiply_nf4}
        with op.block(self.name):
            product = multiply.get(self.weights.kind, self._multiply_blocks)(op, x)
            return op.Add(op.Cast(product, "float32"), self._part("bias")) if self.bias else product

    def _multiply_float(self, op: Op, x: Activations) -> Value:
        """The weights as they are, [out, in]."""
        return op.Gemm(x.value, op.Cast(self._part("weight"), x.value.dtype), transB=1)

    def _multiply_rows(self, op: Op, x: Activations) -> Value:
        """W8A8: int8 weights [in, out] with a scale for each output, u8 activations with a scale for each row.

        The integer product is exact; it is scaled by output inside the operator and by row after it.
        """
        rows, row_scale = x.quantize(op)
        weight, scales = self._part("weight"), self._part("scales")
        if self.weights.table:
            weight = op.Transpose(weight, perm=[1, 0])  # when the graph is loaded
        return op.Mul(op.MatMulIntegerToFloat(rows, weight, 1.0, scales, declare_rounding(op)[1]), row_scale)

    def _multiply_blocks(self, op: Op, x: Activations) -> Value:
        """Weight-only 4 or 8 bits in groups along the input."""
        scales = op.Cast(self._part("scales"), x.value.dtype)  # folded when the graph is loaded
        zero_points = [] if self.weights.symmetric else [self._part("zero_points")]
        sizes = {**self._sizes(), "bits": self.weights.bits}
        if x.value.dtype == "float32":
            sizes["accuracy_level"] = INT8_ACTIVATIONS
        return op.MatMulNBits(x.value, self._part("weight"), scales, *zero_points, **sizes)

    def _multiply_nf4(self, op: Op, x: Activations) -> Value:
        """bitsandbytes' NormalFloat: its codes and its absmax as they are."""
        absmax = op.Cast(self._part("absmax"), x.value.dtype)
        return op.MatMulBnb4(x.value, self._part("weight"), absmax, quant_type=NF4, **self._sizes())

    def _sizes(self) -> dict[str, int]:
        return {"K": self.inputs, "N": self.outputs, "block_size": self.weights.block_size}

    def _part(self, part: str) -> Value:
        return self.op.weight(f"{self.name}.{part}")


def look_up(op: Op, ids: Value, name: str, weights: WeightFormat) -> Value:
    """Rows of the table `name`, as fp32; an id outside of it would silently give zeros, so callers check ids first."""
    table = op.weight(f"{name}.weight")
    with op.block(name):
        if weights.kind == "float":  # fp16 is widened after it is looked up, so that the table stays small
            return op.Cast(op.Gather(table, ids, axis=0), "float32")
        scales = op.Cast(op.weight(f"{name}.scales"), "float32")
        if weights.kind == "row":
            looked_up, steps = (op.Gather(each, ids, axis=0) for each in (table, scales))
            return op.Mul(op.Cast(looked_up, "float32"), op.Unsqueeze(steps, [-1]))
        sizes = {"bits": weights.bits, "block_size": weights.block_size}
        return op.GatherBlockQuantized(table, ids, scales, **sizes, gather_axis=0, quantize_axis=1)

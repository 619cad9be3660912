"""The graph that a configuration and its formats imply, node by node, for comparison with one from a stranger.

A value is known by how it is computed: by its operator, the attributes and the values it reads. Two graphs whose
outputs are the same values compute the same thing, whatever their values are called and in whatever order their nodes
stand. This file therefore says the same as the exporter's network, in fewer words; a test holds each against the other.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..format.model_config import ModelConfig
from ..format.recipe import Formats, Target, WeightFormat
from ..format.tensors import EMBEDDING, LM_HEAD, matrix_shapes
from .onnx_reader import AttributeValue, Constant
from .signature import (
    ACTIVATION_LEVELS,
    ACTIVATION_ZERO_POINT,
    EIGHT_BITS,
    activation_dtype,
    input_specs,
    top_k,
    weight_specs,
)

MICROSOFT = "com.microsoft"

_CODES = {"float32": 1, "float16": 10}  # TensorProto.DataType
_NAMED = (ACTIVATION_LEVELS, ACTIVATION_ZERO_POINT)
_INT8_ACTIVATIONS = 4
_NF4 = 1


class Value(NamedTuple):
    """A value of the plan: its number, and its type where the plan depends on it."""

    number: int
    dtype: str


class Step(NamedTuple):
    """How a value is computed. `number` is that of the first output."""

    number: int
    domain: str
    operator: str
    inputs: tuple[int, ...]
    attributes: dict[str, AttributeValue]


class GraphPlan:
    """Every value of the graph by number, and which of them are its outputs.

    Attributes:
        outputs: number of each output by name.
        nodes: how many nodes the graph has, constants aside.
        constants: name (most have none) and value of each constant by number.
        steps: every value that is computed, each after those that it needs.
    """

    def __init__(self, config: ModelConfig, formats: Formats, target: Target) -> None:
        self._numbers: dict[Hashable, int] = {}
        self.nodes = 0
        self.constants: dict[int, tuple[str, Constant]] = {}
        self.steps: list[Step] = []
        self._target: Target = target
        self._config, self._formats = config, formats
        self._weights = {
            spec.name: Value(self._number(("weight", spec.name)), spec.dtype)
            for spec in weight_specs(config, formats).values()
        }
        self._inputs = {
            spec.name: Value(self._number(("input", spec.name)), spec.dtype) for spec in input_specs(config, target)
        }
        self._shapes = matrix_shapes(config)
        self._activation = activation_dtype(target)
        self._frequencies = _frequencies(config)
        self.outputs: dict[str, int] = {}
        self._network()

    # --- questions ---------------------------------------------------------------------------------------------------

    def leaf(self, name: str) -> int | None:
        """The number of a weight or an input, None where the plan has no such thing."""
        value = self._weights.get(name) or self._inputs.get(name)
        return value.number if value else None

    def constant(self, constant: Constant, name: str = "") -> int | None:
        """The number of a constant, None where the plan has no such constant.

        Two have names, by which the runtime may replace them. The rotary frequencies are powers, whose
        last bit depends on the machine that computed them.
        """
        found = self._numbers.get(("constant", constant, name if name in _NAMED else ""))
        if found is None and (constant.dtype, constant.shape) == ("float32", self._frequencies.shape):
            values = np.frombuffer(constant.data, "<f4")
            if np.allclose(values, self._frequencies, rtol=1e-6, atol=0):
                return self._array(self._frequencies).number
        return found

    def node(
        self, domain: str, operator: str, inputs: tuple[int, ...], attributes: dict[str, AttributeValue]
    ) -> int | None:
        """The number of what a node computes (of the first output), None where the plan has no such node."""
        return self._numbers.get(_key(domain, operator, inputs, attributes))

    # --- construction ------------------------------------------------------------------------------------------------

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, 2 * len(self._numbers))  # even: the odd ones are second outputs

    def _op(
        self,
        operator: str,
        *inputs: Value,
        dtype: str = "float32",
        domain: str = "",
        **attributes: AttributeValue,
    ) -> Value:
        numbers, known = tuple(value.number for value in inputs), len(self._numbers)
        number = self._number(_key(domain, operator, numbers, attributes))
        self.nodes += 1
        if len(self._numbers) > known:
            self.steps.append(Step(number, domain, operator, numbers, attributes))
        return Value(number, dtype)

    def _array(self, array: NDArray[np.generic], name: str = "") -> Value:
        constant = Constant(array.dtype.name, array.shape, array.tobytes())
        number = self._number(("constant", constant, name))
        self.constants[number] = name, constant
        return Value(number, array.dtype.name)

    def _ints(self, *values: int) -> Value:
        return self._array(np.array(values, "<i8"))

    def _scalar(self, value: float) -> Value:
        return self._array(np.array(value, "<f4"))

    def _as(self, value: Value, dtype: str) -> Value:
        return value if value.dtype == dtype else self._op("Cast", value, dtype=dtype, to=_CODES[dtype])

    # --- the network -------------------------------------------------------------------------------------------------

    def _network(self) -> None:
        given, config = self._inputs, self._config
        hidden = self._embedding(self._op("Reshape", given["input_ids"], self._ints(-1)))
        layout = self._layout()
        for index in range(config.num_hidden_layers):
            hidden = self._layer(f"model.layers.{index}", index, hidden, layout)
        asked = self._norm(self._op("Gather", hidden, given["logit_rows"], axis=0), "model.norm.weight")
        logits = self._as(self._linear(LM_HEAD, _Activations(self._as(asked, self._activation))), "float32")
        self.outputs["logits"] = logits.number
        self._reduce(logits)

    def _embedding(self, ids: Value) -> Value:
        weights, table = self._formats.embedding, self._weights[f"{EMBEDDING}.weight"]
        if weights.kind == "float":
            return self._as(self._op("Gather", table, ids, dtype=table.dtype, axis=0), "float32")
        scales = self._op("Cast", self._weights[f"{EMBEDDING}.scales"], to=_CODES["float32"])
        return self._op(
            "GatherBlockQuantized",
            table,
            ids,
            scales,
            domain=MICROSOFT,
            bits=weights.bits,
            block_size=weights.block_size,
            gather_axis=0,
            quantize_axis=1,
        )

    def _layout(self) -> _Layout:
        positions, key_mask = self._inputs["position_ids"], self._inputs["key_mask"]
        angles = self._op(
            "Mul",
            self._op("Cast", self._op("Unsqueeze", positions, self._ints(-1)), to=_CODES["float32"]),
            self._array(self._frequencies),
        )
        batch = self._op("Shape", positions, start=0, end=1)
        active = self._op("Shape", positions, start=1, end=2)
        keys = self._op("Shape", key_mask, start=1, end=2)
        shape = self._op("Concat", batch, self._ints(1), active, keys, axis=0)
        mask = self._op("Expand", self._op("Unsqueeze", key_mask, self._ints(1, 2)), shape)
        heads = self._op("Concat", batch, active, self._ints(-1, self._config.head_dim), axis=0)
        return _Layout(self._op("Cos", angles), self._op("Sin", angles), mask, heads)

    def _layer(self, name: str, index: int, hidden: Value, layout: _Layout) -> Value:
        normed = self._as(self._norm(hidden, f"{name}.input_layernorm.weight"), self._activation)
        attended = self._attention(f"{name}.self_attn", index, _Activations(normed), layout)
        hidden = self._op("Add", hidden, self._as(attended, "float32"))
        normed = self._as(self._norm(hidden, f"{name}.post_attention_layernorm.weight"), self._activation)
        x = _Activations(normed)
        gate = self._linear(f"{name}.mlp.gate_proj", x)
        activated = self._op("Mul", gate, self._op("Sigmoid", gate), dtype=gate.dtype)
        inner = self._op("Mul", activated, self._linear(f"{name}.mlp.up_proj", x), dtype=gate.dtype)
        projected = self._linear(f"{name}.mlp.down_proj", _Activations(inner))
        return self._op("Add", hidden, self._as(projected, "float32"))

    def _attention(self, name: str, index: int, x: _Activations, layout: _Layout) -> Value:
        query, key = (
            self._as(
                self._op(
                    "RotaryEmbedding",
                    self._heads(self._linear(f"{name}.{part}", x), layout),
                    layout.cos,
                    layout.sin,
                    interleaved=0,
                ),
                self._activation,
            )
            for part in ("q_proj", "k_proj")
        )
        value = self._heads(self._as(self._linear(f"{name}.v_proj", x), self._activation), layout)
        attended = self._op(
            "Attention",
            query,
            self._append("key", index, key),
            self._append("value", index, value),
            layout.mask,
            dtype=self._activation,
            is_causal=0,
        )
        merged = self._op("Transpose", attended, dtype=self._activation, perm=(0, 2, 1, 3))
        rows = self._op("Reshape", merged, self._ints(-1, self._config.hidden_size), dtype=self._activation)
        return self._linear(f"{name}.o_proj", _Activations(rows))

    def _heads(self, projected: Value, layout: _Layout) -> Value:
        split = self._op("Reshape", projected, layout.heads)
        return self._op("Transpose", split, dtype=projected.dtype, perm=(0, 2, 1, 3))

    def _append(self, part: str, index: int, present: Value) -> Value:
        self.outputs[f"present_key_values.{index}.{part}"] = present.number
        return self._op("Concat", self._inputs[f"past_key_values.{index}.{part}"], present, axis=2)

    def _norm(self, hidden: Value, weight: str) -> Value:
        epsilon = float(np.float32(self._config.rms_norm_eps))
        return self._op("RMSNormalization", hidden, self._weights[weight], axis=-1, epsilon=epsilon)

    def _reduce(self, logits: Value) -> None:
        temperature, last = self._inputs["temperature"], self._ints(-1)
        one = self._scalar(1.0)
        divisor = self._op("Where", self._op("Greater", temperature, self._scalar(0.0)), temperature, one)
        scaled = self._op("Div", logits, divisor)
        best = self._op("TopK", scaled, self._ints(top_k(self._config)), axis=-1, largest=1, sorted=1)
        largest = self._op("Gather", best, self._ints(0), axis=1)
        exponentials = self._op("Exp", self._op("Sub", scaled, largest))
        total = self._op("ReduceSum", exponentials, last, keepdims=1)
        probabilities = self._op("Div", exponentials, total)
        logarithms = self._op("Log", self._op("Add", probabilities, self._scalar(1e-10)))
        top_ids = Value(second_output(best.number), "int64")
        normalizer = self._op("Squeeze", self._op("Add", largest, self._op("Log", total)), last)
        entropy = self._op("ReduceSum", self._op("Mul", probabilities, logarithms), last, keepdims=0)
        self.outputs |= {
            "top_logits": best.number,
            "top_ids": top_ids.number,
            "top_probs": self._op("GatherElements", probabilities, top_ids, axis=-1).number,
            "log_normalizer": normalizer.number,
            "neg_entropy": entropy.number,
        }

    # --- matrix products ---------------------------------------------------------------------------------------------

    def _linear(self, name: str, x: _Activations) -> Value:
        product = self._product(name, self._formats.of(name), x)
        bias = self._weights.get(f"{name}.bias")
        return self._op("Add", self._as(product, "float32"), bias) if bias else product

    def _product(self, name: str, weights: WeightFormat, x: _Activations) -> Value:
        matrix, dtype = self._weights[f"{name}.weight"], x.value.dtype
        outputs, inputs = self._shapes[name]
        if weights.kind == "float":
            return self._op("Gemm", x.value, self._as(matrix, dtype), dtype=dtype, transB=1)
        if weights.kind == "row":
            rows, row_scale = self._quantized_rows(x)
            scales, zero = self._weights[f"{name}.scales"], self._levels()[1]
            product = self._op("MatMulIntegerToFloat", rows, matrix, self._scalar(1.0), scales, zero, domain=MICROSOFT)
            return self._op("Mul", product, row_scale)
        sizes: dict[str, AttributeValue] = {"K": inputs, "N": outputs, "block_size": weights.block_size}
        if weights.kind == "nf4":
            absmax = self._as(self._weights[f"{name}.absmax"], dtype)
            return self._op(
                "MatMulBnb4", x.value, matrix, absmax, dtype=dtype, domain=MICROSOFT, quant_type=_NF4, **sizes
            )
        sizes["bits"] = weights.bits
        if dtype == "float32":
            sizes["accuracy_level"] = _INT8_ACTIVATIONS
        operands = [x.value, matrix, self._as(self._weights[f"{name}.scales"], dtype)]
        if not weights.symmetric:
            operands.append(self._weights[f"{name}.zero_points"])
        return self._op("MatMulNBits", *operands, dtype=dtype, domain=MICROSOFT, **sizes)

    def _quantized_rows(self, x: _Activations) -> tuple[Value, Value]:
        if x.rows is None:
            last = self._ints(-1)
            highest = self._op("ReduceMax", x.value, last, keepdims=0)
            lowest = self._op("Neg", self._op("ReduceMin", x.value, last, keepdims=0))
            largest = self._op("Max", highest, lowest)
            levels, zero_point = self._levels()
            scale = self._op("Max", self._op("Div", largest, levels), self._scalar(1e-30))
            zero = self._op("Expand", zero_point, self._op("Shape", scale))
            rows = self._op("QuantizeLinear", x.value, scale, zero, axis=0)
            x.rows = rows, self._op("Unsqueeze", scale, last)
        return x.rows

    def _levels(self) -> tuple[Value, Value]:
        levels, zero_point = EIGHT_BITS
        return (
            self._array(np.array(levels, "<f4"), ACTIVATION_LEVELS),
            self._array(np.array(zero_point, np.uint8), ACTIVATION_ZERO_POINT),
        )


class _Layout(NamedTuple):
    cos: Value
    sin: Value
    mask: Value
    heads: Value


class _Activations:
    """What enters one or more products; quantized by row at most once."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self.rows: tuple[Value, Value] | None = None


def second_output(number: int) -> int:
    """The number of a node's second output (TopK has two) from that of its first."""
    return number + 1


def _key(
    domain: str, operator: str, inputs: tuple[int, ...], attributes: dict[str, AttributeValue]
) -> tuple[Hashable, ...]:
    # 1 and 1.0 are equal to Python, not to ONNX
    described = sorted((name, type(value).__name__, value) for name, value in attributes.items())
    return ("node", domain, operator, inputs, tuple(described))


def _frequencies(config: ModelConfig) -> NDArray[np.float32]:
    exponents = [-2 * pair / config.head_dim for pair in range(config.head_dim // 2)]
    return np.array([config.rope_theta**exponent for exponent in exponents], "<f4")

"""A recorder of operators: a graph is written by calling them in order.

`op.Mul(a, b)` adds a node and returns the value that it computes. Operands are values, or plain numbers and lists of
integers, which become constants; keywords are the operator's attributes. The operators are those of ONNX
(https://onnx.ai/onnx/operators) and Microsoft's additions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..format.layout import Place, TensorSpec

OPSET = 23
MICROSOFT = "com.microsoft"
ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7, "bool": 9, "float16": 10, "float64": 11}
"""Numbers of TensorProto.DataType by NumPy's names."""

_OF_MICROSOFT = (
    "GatherBlockQuantized",
    "MatMulBnb4",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QuickGelu",
    "SkipSimplifiedLayerNormalization",
)
_RESULTS = {
    "GatherBlockQuantized": "float32",
    "Greater": "bool",
    "MatMulIntegerToFloat": "float32",
    "QuantizeLinear": "uint8",
    "Shape": "int64",
    "Where": "float32",
}
"""Types of results. Of the operators that are not listed, the result has the first operand's type."""

Attribute = int | float | Sequence[int]


class Value(NamedTuple):
    """A tensor of the graph: its name and NumPy's name of its type."""

    name: str
    dtype: str


Operand = Value | float | Sequence[int]
"""A float is a constant of fp32, a list one of int64."""


class Node(NamedTuple):
    """One operator and the names that it reads and makes. Its own name tells which block of the model it is part of."""

    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


class Op:
    """A graph that is being written. Every attribute that begins with a capital is an operator.

    Attributes:
        inputs: what a caller feeds, by name.
        weights: where each weight lies, by name; of those that are one tensor, the first.
        constants: tensors inside the graph, by name.
        nodes: each after those that it reads.
        outputs: what a caller gets, by name; to be filled in.
    """

    def __init__(self, inputs: Iterable[TensorSpec], weights: Mapping[str, Place] = MappingProxyType({})) -> None:
        self.inputs = {spec.name: spec for spec in inputs}
        first: dict[tuple[object, ...], str] = {}  # of the weights that lie in one place in one shape
        self._same = {name: first.setdefault((*place[1:], *place.spec[1:]), name) for name, place in weights.items()}
        self.weights = {name: weights[name] for name in first.values()}
        self.constants: dict[str, NDArray[Any]] = {}
        self.nodes: list[Node] = []
        self.outputs: dict[str, Value] = {}
        self._unnamed: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._block = ""

    def input(self, name: str) -> Value:
        return Value(name, self.inputs[name].dtype)

    def weight(self, name: str) -> Value:
        name = self._same[name]
        return Value(name, self.weights[name].spec.dtype)

    def constant(self, array: NDArray[Any], name: str = "") -> Value:
        """A tensor inside the graph; equal ones are one, unless they have a `name`."""
        key = (array.dtype.name, array.shape, array.tobytes())
        name = name or self._unnamed.setdefault(key, f"constant_{len(self._unnamed)}")
        self.constants[name] = array
        return Value(name, array.dtype.name)

    def __getattr__(self, operator: str) -> Callable[..., Value]:
        if not operator[0].isupper():
            raise AttributeError(operator)
        return partial(self._record, operator)

    def Cast(self, value: Value, dtype: str) -> Value:  # noqa: N802 - an operator
        """`value` as another type; itself where it has that type."""
        if value.dtype == dtype:
            return value
        return self._record("Cast", value, to=ELEMENT_TYPES[dtype])._replace(dtype=dtype)

    def scale(self, value: Value, factor: float) -> Value:
        """`value` times `factor`; itself where that is 1."""
        return value if factor == 1 else self._record("Mul", value, factor)

    def join(self, values: Sequence[Value]) -> Value:
        """`values` along the last axis; itself where there is one."""
        return self._record("Concat", *values, axis=-1) if len(values) > 1 else values[0]

    def TopK(self, value: Value, k: int) -> tuple[Value, Value]:  # noqa: N802 - an operator
        """The `k` largest along the last axis, largest first, and their indices."""
        best = self._record("TopK", value, [k], outputs=2, axis=-1, largest=1, sorted=1)
        return best, Value(f"{best.name}_1", "int64")

    def Split(self, value: Value, lengths: Sequence[int], axis: int) -> list[Value]:  # noqa: N802 - an operator
        """Parts of these `lengths` along `axis`."""
        first = self._record("Split", value, lengths, outputs=len(lengths), axis=axis)
        return [first, *(first._replace(name=f"{first.name}_{index}") for index in range(1, len(lengths)))]

    def AddNorm(self, value: Value, other: Value, gamma: Value, epsilon: float) -> tuple[Value, Value]:  # noqa: N802
        """Microsoft's SkipSimplifiedLayerNormalization: the sum, and its RMS norm."""
        operands = (value, other, gamma)
        norm = self._record("SkipSimplifiedLayerNormalization", *operands, outputs=4, without=(1, 2), epsilon=epsilon)
        return norm._replace(name=f"{norm.name}_3"), norm

    @contextmanager
    def block(self, name: str) -> Iterator[None]:
        """Name what is recorded in this context after a block of the model."""
        outer, self._block = self._block, f"{name}/"
        yield
        self._block = outer

    def _record(
        self, operator: str, *operands: Operand, outputs: int = 1, without: Sequence[int] = (), **attributes: Attribute
    ) -> Value:
        values, number = [self._value(each) for each in operands], len(self.nodes)
        others = ("" if index in without else f"value_{number}_{index}" for index in range(1, outputs))
        names = (f"value_{number}", *others)
        name, domain = f"{self._block}{operator}_{number}", MICROSOFT if operator in _OF_MICROSOFT else ""
        self.nodes.append(Node(name, operator, domain, tuple(value.name for value in values), names, attributes))
        return Value(names[0], _RESULTS.get(operator, values[0].dtype))

    def _value(self, operand: Operand) -> Value:
        if isinstance(operand, Value):
            return operand
        return self.constant(np.array(operand, "<f4" if isinstance(operand, float) else "<i8"))

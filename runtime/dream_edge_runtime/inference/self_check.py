"""Whether this processor, with this ONNX Runtime, multiplies right: found out by multiplying, in milliseconds.

A wrong kernel gives bad text and no error. So each kind of product that a graph has is tried on a slice of its own
weights, recorded as the graph records it, and held against NumPy's product of the values that the weights stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifact import Artifact
from ..errors import OnnxRuntimeUnfit, WrongProduct
from ..format.layout import TensorSpec, matrix_specs, weight_places
from ..format.recipe import Target, WeightFormat
from ..format.tensors import EMBEDDING, matrix_shapes
from ..graph.linear import Activations, Linear, look_up
from ..graph.onnx_writer import write_onnx
from ..graph.op import Op, Value
from ..graph.signature import activation_dtype, rounding_constants
from ..requantize.matrix import dequantize
from .devices import import_onnxruntime

_OUTPUTS = 128  # several tiles of every kernel
_LARGEST = {"float32": 1e36, "float16": 6e4}  # past these a product, or a part of one, may rightly overflow

Array = NDArray[Any]


def check_products(artifact: Artifact, target: Target, bits: tuple[int, int], create: Callable[[bytes], Any]) -> None:
    """Try each kind of product of the graph for `target`, in a session that `create` makes of an ONNX file.

    `bits` are the constants of W8A8 activations. Raises WrongProduct where a product is further from its true value
    than rounding explains.
    """
    dtype, probes = activation_dtype(target), list(_choose_probes(artifact, target))
    widths = sorted({probe.inputs for probe in probes})
    ports = [TensorSpec(f"x{width}", dtype, ("rows", width)) for width in widths]
    op = _Slices([*ports, TensorSpec("ids", "int64", ("ids",))], probes)
    op.outputs = {probe.name: probe.record(op) for probe in probes}
    op.constants |= {name: array for name, array in rounding_constants(*bits).items() if name in op.constants}
    specs = [TensorSpec(probe.name, "float32", ("rows", "columns")) for probe in probes]
    session = create(write_onnx(op, specs, name="self_check"))
    x, ids = {width: _draw_activations(width, dtype) for width in widths}, np.arange(probes[0].outputs)
    found = [  # for one row there are other kernels
        session.run([*op.outputs], {"ids": ids} | {f"x{width}": x[width][:rows] for width in widths})
        for rows in (1, None)
    ]
    for probe, *products in zip(probes, *found, strict=True):
        given = np.concatenate([x[probe.inputs][:1], x[probe.inputs]])
        times = probe.measure_error(given, np.concatenate(products), bits[0])
        if not times <= 1:
            version = import_onnxruntime().__version__
            scheme = "fp16" if probe.weights.bits == 8 else "int8"
            raise WrongProduct(artifact.path, probe.kind, times, target, version, scheme)


@dataclass(frozen=True)
class _Probe:
    """The first outputs of the matrix `name` as they are stored: multiplied or, of the embedding, looked up."""

    name: str
    weights: WeightFormat
    outputs: int
    inputs: int
    stored: dict[str, Array]

    @property
    def kind(self) -> str:
        """What is tried, in words."""
        weights = self.weights
        groups = f" in groups of {weights.block_size}" if weights.kind in ("block", "nf4") else ""
        form = {"row": "8-bit integers", "nf4": "NF4 weights"}.get(weights.kind, f"{weights.bits}-bit weights")
        return f"the {'look-up' if self.name == EMBEDDING else 'product'} of {form}{groups}"

    def record(self, op: Op) -> Value:
        if self.name == EMBEDDING:
            return look_up(op, op.input("ids"), self.name, self.weights)
        x = Activations(op.input(f"x{self.inputs}"))
        return op.Cast(Linear(op, self.name, self.weights, self.outputs, self.inputs)(x), "float32")

    def measure_error(self, x: Array, found: Array, levels: int) -> float:
        """The largest error of `found`, relative to what rounding explains; NaN is infinitely wrong."""
        matrix = dequantize(self.stored, self.weights, self.inputs).astype(np.float64)
        if self.name == EMBEDDING:
            expected, bound = matrix.T, np.abs(matrix.T) * 2.0**-21
            found, fits = found[: self.outputs], np.isfinite(expected)
        else:
            expected = x.astype(np.float64) @ matrix
            bound, fits = self._bound(x, np.abs(matrix), levels)
        error = np.nan_to_num(np.abs(found - expected), nan=np.inf)
        return float((error / (bound + 1e-37))[fits & np.isfinite(expected)].max(initial=0))

    def _bound(self, x: Array, magnitudes: Array, levels: int) -> tuple[Array, Array]:
        """What rounding explains of an error of x · matrix, and where the product surely does not overflow.

        - sums of n in fp32: 8 √n u Σ |x w| (Higham & Mary, "A New Approach to Probabilistic Rounding Error Analysis",
          theorem 2.4), where kernels may add up codes and zero points apart;
        - weights: fp16 on CUDA; scales of groups that kernels for ARM keep as bfloat16;
        - activations: all rows but the last have two values, which every quantizer meets; in it, a step.
        """
        sizes, dtype = np.abs(x.astype(np.float64)), x.dtype.name
        terms = sums = sizes @ magnitudes
        if self.weights.kind == "block":
            step = np.abs(self.stored["scales"].astype(np.float64)).max(axis=1)
            terms = sums + sizes.sum(axis=1, keepdims=True) * step * 2**self.weights.bits
        bound = 8 * self.inputs**0.5 * 2.0**-24 * terms
        if dtype == "float16":
            bound += 2.0**-10 * terms
        elif self.weights.kind == "block":
            bound += 2.0**-9 * sums
        if self.weights.kind in ("row", "block"):
            bound[-1] += sizes[-1].max() / levels * magnitudes.sum(axis=0)
        return bound, terms < _LARGEST[dtype]


class _Slices(Op):
    """A recorder whose weights are constants inside the graph."""

    def __init__(self, inputs: Iterable[TensorSpec], probes: Iterable[_Probe]) -> None:
        super().__init__(inputs)
        self._arrays = {f"{probe.name}.{part}": array for probe in probes for part, array in probe.stored.items()}

    def weight(self, name: str) -> Value:
        return self.constant(self._arrays[name], name)


def _choose_probes(artifact: Artifact, target: Target) -> Iterator[_Probe]:
    """A matrix of each format and number of inputs, the embedding first."""
    config, recipe, tried = artifact.manifest.config, artifact.manifest.recipe, set()
    places = weight_places(config, recipe, target)
    for name, (outputs, inputs) in matrix_shapes(config).items():
        weights, outputs = recipe.targets[target].of(name), min(outputs, _OUTPUTS)
        if (key := (weights, inputs, name == EMBEDDING)) not in tried:
            tried.add(key)
            stored = {}
            for spec in matrix_specs(name, (outputs, inputs), weights):
                leading = tuple(slice(int(length)) for length in spec.shape)
                stored[spec.name.rpartition(".")[2]] = np.array(artifact.map_tensor(places[spec.name])[leading])
            yield _Probe(name, weights, outputs, inputs, stored)


def _draw_activations(width: int, dtype: str) -> Array:
    """[5, width]: zeros and ones, zeros and minus ones, and again; and normal numbers."""
    rng = np.random.default_rng(0)
    two_values = rng.integers(2, size=(4, width)) * np.array([[1], [-1], [1], [-1]])
    return np.concatenate([two_values, rng.standard_normal((1, width))]).astype(dtype)


@cache
def saturates() -> bool:
    """Whether this processor's u8 × s8 product loses integers that do not fit 16 bits (x64 without VNNI).

    The probe's weights are all 127, so a row of 255s must give 64 · (255 - 128) · 127. Raises OnnxRuntimeUnfit.
    """
    ort, probe = import_onnxruntime(), Op([TensorSpec("activations", "uint8", ("rows", 64))])
    weights, zero_point = np.full((64, 16), 127, np.int8), np.array(128, np.uint8)
    probe.outputs["product"] = probe.MatMulIntegerToFloat(
        probe.input("activations"), probe.constant(weights), 1.0, 1.0, probe.constant(zero_point)
    )
    graph = write_onnx(probe, [TensorSpec("product", "float32", ("rows", 16))], name="saturation_probe")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise OnnxRuntimeUnfit(ort.__version__, str(error)) from None
    product = session.run(None, {"activations": np.full((1, 64), 255, np.uint8)})[0]
    return bool((product != 64 * (255 - 128) * 127).any())

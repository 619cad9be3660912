"""Runs graphs directly, below the runtime: whole artifacts, and single matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from dream_edge_export.quantize.grid import Arrays, encode_linear
from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.layout import TensorSpec
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Target, WeightFormat
from dream_edge_runtime.graph.linear import Activations, Linear
from dream_edge_runtime.graph.model import reduce_logits
from dream_edge_runtime.graph.onnx_writer import write_onnx
from dream_edge_runtime.graph.op import Op, Value
from dream_edge_runtime.graph.signature import activation_dtype
from dream_edge_runtime.inference.devices import import_onnxruntime
from dream_edge_runtime.inference.self_check import saturates

Outputs = dict[str, NDArray[Any]]


class Graph:
    """The graph of an artifact for one target, all of its inputs and outputs open to the test. It runs on the CPU.

    `extra`: names of values inside the graph that become outputs too.
    """

    def __init__(self, artifact: Artifact, *, target: Target = "cpu", extra: Sequence[str] = ()) -> None:
        self.config: ModelConfig = artifact.manifest.config
        self.activation = np.dtype(activation_dtype(target))
        path = artifact.path / artifact.manifest.graphs[target]
        self.model = onnx.load(path, load_external_data=False)
        self.model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra)
        self.opened = _session(path if not extra else _beside(path, self.model))

    def run(
        self,
        ids: IntArray,
        positions: IntArray,
        attention_mask: BoolArray,
        rows: IntArray,
        *,
        temperature: float = 1.0,
        past: Mapping[str, FloatArray] | None = None,
    ) -> Outputs:
        """All outputs by name. `past` holds cached keys and values by input name; none by default."""
        config = self.config
        none = np.zeros((len(ids), config.num_key_value_heads, 0, config.head_dim), self.activation)
        names = [
            f"past_key_values.{layer}.{part}" for layer in range(config.num_hidden_layers) for part in ("key", "value")
        ]
        feeds = {
            "input_ids": ids,
            "position_ids": positions,
            "attention_mask": attention_mask,
            "logit_rows": rows,
            "temperature": np.array(temperature, np.float32),
            **(past or dict.fromkeys(names, none)),
        }
        outputs = [output.name for output in self.opened.get_outputs()]
        return dict(zip(outputs, self.opened.run(outputs, feeds), strict=True))

    def full_pass(self, ids: IntArray, valid: BoolArray, *, temperature: float = 1.0) -> Outputs:
        """Every position active, every row asked for; `valid` is false for padding on the left."""
        positions = np.maximum(valid.cumsum(axis=1) - 1, 0)
        block = positions // (self.config.causal_block or ids.shape[1])
        seen = valid[:, None, :] & (block[:, None, :] <= block[:, :, None])
        return self.run(ids, positions, seen, np.arange(ids.size), temperature=temperature)


def split_name(joined: str) -> list[str]:
    """The matrices that one in a graph consists of: "layer.q_proj+k_proj" are "layer.q_proj" and "layer.k_proj"."""
    block, _, names = joined.rpartition(".")
    return [f"{block}.{name}" if block else name for name in names.split("+")]


class _Inside(Op):
    """A recorder whose weights are constants inside the file."""

    def __init__(self, inputs: Sequence[TensorSpec], arrays: Mapping[str, NDArray[Any]]) -> None:
        super().__init__(inputs)
        self._arrays = arrays

    def weight(self, name: str) -> Value:
        return self.constant(self._arrays[name], name)


def single_product(
    weights: WeightFormat, weight: FloatArray, bias: FloatArray | None = None, *, activation: str = "float32"
) -> tuple[bytes, Arrays]:
    """A model `x` [rows, in] → `y` [rows, out] of one matrix [out, in]; and its encoded parameters."""
    outputs, inputs = weight.shape
    arrays = encode_linear(torch.from_numpy(weight), weights)
    held = {f"product.{name}": array for name, array in {**arrays, **({} if bias is None else {"bias": bias})}.items()}
    op = _Inside([TensorSpec("x", activation, ("rows", inputs))], held)
    result = Linear(op, "product", weights, outputs, inputs, bias=bias is not None)(Activations(op.input("x")))
    op.outputs["y"] = result
    return _checked(write_onnx(op, [TensorSpec("y", result.dtype, ("rows", outputs))], name="single_product")), arrays


def multiply(model: bytes, x: NDArray[np.floating[Any]], *, threads: int = 1) -> FloatArray:
    result: FloatArray = _session(model, threads=threads).run(None, {"x": x})[0]
    return result


def _checked(model: bytes) -> bytes:
    """`model`, if the onnx package finds it well formed and agrees about every type and shape."""
    onnx.checker.check_model(model, full_check=True)
    return model


def _beside(path: Path, model: onnx.ModelProto) -> Path:
    changed = path.with_name("with_more_outputs.onnx")
    changed.write_bytes(model.SerializeToString())
    return changed


def _session(model: Path | bytes, *, threads: int = 1) -> Any:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def reduced(logits: FloatArray, *, temperature: float, k: int) -> Outputs:
    """The reduced outputs of any logits [rows, vocab], from the graph that an artifact ends in."""
    rows = len(logits)
    op = Op([TensorSpec("logits", "float32", logits.shape), TensorSpec("temperature", "float32", ())])
    op.outputs = values = reduce_logits(op, op.input("logits"), op.input("temperature"), k)
    shapes = {name: (rows, k) for name in values if name.startswith("top_")}
    specs = [TensorSpec(name, value.dtype, shapes.get(name, (rows,))) for name, value in values.items()]
    opened = _session(_checked(write_onnx(op, specs, name="reduced")))
    feeds = {"logits": logits, "temperature": np.array(temperature, np.float32)}
    return dict(zip(values, opened.run([*values], feeds), strict=True))

"""The whole graph: any positions active, the rest cached, only the asked rows projected.

Inputs and outputs are those of `dream_edge_runtime.graph.signature`; the runtime, and anybody who drives the graph from
another language, relies on it.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript import GraphBuilder

from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Formats, Target
from dream_edge_runtime.format.tensors import LM_HEAD
from dream_edge_runtime.graph.signature import (
    OPSET,
    PRODUCER,
    activation_dtype,
    input_specs,
    output_specs,
    top_k,
)

from .linear import MICROSOFT, Activations, as_type, linear
from .network import Decoder, KeyValue

IR_VERSION = 11  # the first with opset 23


def build_model(config: ModelConfig, formats: Formats, target: Target) -> ir.Model:
    """The graph of one denoising pass for `target`; its weights are named and shaped but hold no data yet."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET, MICROSOFT: 1}, name="dream_denoising_pass")
    builder = GraphBuilder(graph)
    op = builder.op
    activation = _dtype(activation_dtype(target))
    inputs = {
        spec.name: builder.input(spec.name, _dtype(spec.dtype), list(spec.shape))
        for spec in input_specs(config, target)
    }
    past = [
        KeyValue(inputs[f"past_key_values.{index}.key"], inputs[f"past_key_values.{index}.value"])
        for index in range(config.num_hidden_layers)
    ]

    hidden, present = Decoder(config, formats, activation)(
        op, inputs["input_ids"], inputs["position_ids"], inputs["key_mask"], past, inputs["logit_rows"]
    )
    lm_head = linear(formats.lm_head, config.vocab_size, config.hidden_size)
    lm_head._set_name(LM_HEAD)
    logits = as_type(op, lm_head(op, Activations(as_type(op, hidden, activation))), ir.DataType.FLOAT)

    values = {"logits": logits, **reduce_logits(op, logits, inputs["temperature"], top_k(config))}
    for index, computed in enumerate(present):
        values[f"present_key_values.{index}.key"] = computed.key
        values[f"present_key_values.{index}.value"] = computed.value
    for spec in output_specs(config, target):
        value = values[spec.name]
        value.dtype, value.shape = _dtype(spec.dtype), ir.Shape(list(spec.shape))
        builder.add_output(value, spec.name)
    for node in graph:  # which module a node came from is worth keeping, in a viewer's form and once
        node.metadata_props.pop("pkg.onnxscript.class_hierarchy", None)
        node.metadata_props.pop("pkg.onnxscript.name_scopes", None)
    return ir.Model(graph, ir_version=IR_VERSION, producer_name=PRODUCER)


def reduce_logits(op: Any, logits: ir.Value, temperature: ir.Value, k: int) -> dict[str, ir.Value]:
    """What sampling needs of logits [rows, vocab], so that the rows themselves can stay on the device.

    Probabilities are exp(l - max) / sum, as the official sampler computes them, and not exp(l - log_normalizer): in
    fp32 the latter loses two decimal digits near 1, where confident positions are put in order.
    """
    divisor = op.Where(op.Greater(temperature, 0.0), temperature, 1.0)
    scaled = op.Div(logits, divisor)
    top_logits, top_ids = op.TopK(scaled, [k], axis=-1, largest=1, sorted=1, _outputs=2)
    largest = op.Gather(top_logits, [0], axis=1)  # not ReduceMax, which on CUDA asks for cuDNN
    exponentials = op.Exp(op.Sub(scaled, largest))
    total = op.ReduceSum(exponentials, [-1], keepdims=1)
    probabilities = op.Div(exponentials, total)
    logarithms = op.Log(op.Add(probabilities, 1e-10))
    return {
        "top_logits": top_logits,
        "top_ids": top_ids,
        "top_probs": op.GatherElements(probabilities, top_ids, axis=-1),
        "log_normalizer": op.Squeeze(op.Add(largest, op.Log(total)), [-1]),
        "neg_entropy": op.ReduceSum(op.Mul(probabilities, logarithms), [-1], keepdims=0),
    }


def weight_parameters(model: ir.Model) -> dict[str, ir.Value]:
    """The weights still to be filled in, by name, in the order the graph meets them."""
    return {name: value for name, value in model.graph.initializers.items() if value.const_value is None}


def _dtype(name: str) -> ir.DataType:
    return {
        "float32": ir.DataType.FLOAT,
        "float16": ir.DataType.FLOAT16,
        "int64": ir.DataType.INT64,
        "bool": ir.DataType.BOOL,
    }[name]

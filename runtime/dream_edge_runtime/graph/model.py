"""The network: one denoising pass as an ONNX graph, which follows from an artifact's configuration and recipe alone.

Any positions are active, the rest cached, and only the asked rows are projected. The exporter writes the graph into the
artifact, for other languages; the runtime runs what it derives here, and never what a file says.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..format.layout import product_places
from ..format.model_config import ModelConfig
from ..format.recipe import Recipe, Target
from ..format.tensors import LM_HEAD
from .layers import Decoder
from .linear import Activations
from .onnx_writer import write_onnx
from .op import Op, Value
from .signature import (
    EIGHT_BITS,
    activation_dtype,
    input_specs,
    key_value_names,
    output_specs,
    rounding_constants,
    top_k,
)

GRAPH_REVISION = 4
"""Raised by every change of the bytes that `derive_graph` gives; what the weights mean never changes with it."""


def derive_graph(
    config: ModelConfig,
    recipe: Recipe,
    target: Target,
    *,
    shards: Mapping[str, str] | None = None,
    bits: tuple[int, int] = EIGHT_BITS,
) -> bytes:
    """The ONNX file for `target`, with each of its weights pointed at its place in the shards.

    Those in an artifact have the defaults. `shards` are other names for the files of weights, by their own; `bits` are
    the constants of W8A8 activations, if there are any.
    """
    places = product_places(config, recipe, target)
    if shards:
        places = {name: place._replace(shard=shards[place.shard]) for name, place in places.items()}
    op, dtype = Op(input_specs(config, target), places), activation_dtype(target)
    decoder = Decoder(op, config, recipe, target)
    hidden, present = decoder.record()
    (product,) = decoder.multiply([LM_HEAD], Activations(op.Cast(hidden, dtype)))
    logits = op.Cast(product, "float32")
    op.outputs = {"logits": logits, **reduce_logits(op, logits, op.input("temperature"), top_k(config, target))}
    names = key_value_names("present", config)
    op.outputs |= zip(names, (value for computed in present for value in computed), strict=True)
    op.constants |= {name: array for name, array in rounding_constants(*bits).items() if name in op.constants}
    return write_onnx(op, output_specs(config, target), name="dream_denoising_pass")


def reduce_logits(op: Op, logits: Value, temperature: Value, k: int) -> dict[str, Value]:
    """What sampling needs of logits [rows, vocab], so that the rows themselves can stay on the device.

    Probabilities near 1 put confident positions in order, so they must not depend on how many numbers a processor adds
    at once. The best token is left out of the sum, which then is as precise as its largest term is small, and joins it
    in double precision; what depends on single tokens is rounded to fp32 once.
    """
    divisor = op.Where(op.Greater(temperature, 0.0), temperature, 1.0)
    scaled = op.Div(logits, divisor)
    top_logits, top_ids = op.TopK(scaled, k)
    largest = op.Gather(top_logits, [0], axis=1)  # not ReduceMax, which on CUDA asks for cuDNN
    nothing = op.Add(largest, -np.inf)
    others = op.Exp(op.Sub(op.ScatterElements(scaled, op.Gather(top_ids, [0], axis=1), nothing, axis=-1), largest))
    total = op.Add(op.Cast(op.ReduceSum(others, [-1], keepdims=1), "float64"), op.constant(np.array(1.0)))
    best = op.Exp(op.Cast(op.Sub(top_logits, largest), "float64"))
    top_probs = op.Cast(op.Div(best, total), "float32")

    def inform(probabilities: Value) -> Value:
        return op.Mul(probabilities, op.Log(op.Add(probabilities, 1e-10)))

    rest = op.ReduceSum(inform(op.Div(others, op.Cast(total, "float32"))), [-1], keepdims=1)
    return {
        "top_logits": top_logits,
        "top_ids": top_ids,
        "top_probs": top_probs,
        "log_normalizer": op.Squeeze(op.Add(largest, op.Cast(op.Log(total), "float32")), [-1]),
        "neg_entropy": op.Squeeze(op.Add(rest, inform(op.Gather(top_probs, [0], axis=1))), [-1]),
    }

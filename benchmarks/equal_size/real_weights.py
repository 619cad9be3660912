"""What single matrix products of a real language model lose in each format, at its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dream_edge_export.quantize.grid import encode_linear
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import ROW, WeightFormat

from .activations import Rounding, by_row, in_groups, of_gguf_type
from .artifact_weights import dequantized
from .bitsandbytes_weights import NF4_BITS, NF4_NESTED_BITS, THRESHOLD, int8, int8_bits, nf4
from .gguf_weights import read_gguf, write_gguf
from .smollm2 import Product
from .subjects import BITSANDBYTES, LLAMA_CPP, OURS

SUPER_BLOCK = 256
QUANTIZATIONS = {"Q4_0": "Q4_0", "Q4_K_S": "Q4_K", "Q5_K_S": "Q5_K", "Q6_K": "Q6_K", "Q8_0": "Q8_0"}
"""What llama-quantize is asked for → the type it then gives every matrix with --pure."""


@dataclass(frozen=True)
class Loss:
    """Root mean squares over matrices of ‖X Ŵᵀ - X Wᵀ‖ / ‖X Wᵀ‖: with X as it is, and rounded as in a pass."""

    name: str
    family: str
    bits: float
    weights: float
    computed: float


def losses(
    config: ModelConfig, products: Sequence[Product], work: Path, quantize: Callable[[Path, Path, str], None]
) -> list[Loss]:
    """Every format. `quantize(whole, path, name)` is llama-quantize with --pure."""
    return [*_ours(products), *_bitsandbytes(products), *_llama_cpp(config, products, work, quantize)]


def _ours(products: Sequence[Product]) -> list[Loss]:
    blocks = [WeightFormat(kind="block", bits=4, block_size=size, symmetric=False) for size in (128, 64, 32)]
    formats: list[tuple[str, WeightFormat, Rounding | None]] = [
        (f"int4, block {each.block_size}", each, in_groups(each.block_size)) for each in blocks
    ]
    formats += [("nf4", WeightFormat(kind="nf4", bits=4, block_size=64), None), ("int8", ROW, by_row)]
    count, found = sum(each.weight.numel() for each in products), []
    for name, format_, rounding in formats:

        def restored(each: Product, format_: WeightFormat = format_) -> Tensor:
            rows, inputs = each.weight.shape
            return torch.from_numpy(dequantized(encode_linear(each.weight, format_), format_, (rows, inputs)))

        stored = sum(format_.stored_bytes(*each.weight.shape) for each in products)
        found.append(_loss(name, OURS, 8 * stored / count, products, restored, rounding))
    return found


def _bitsandbytes(products: Sequence[Product]) -> list[Loss]:
    count = sum(each.weight.numel() for each in products)
    eight = sum(int8_bits(each.weight.shape[1]) * each.weight.numel() for each in products) / count
    return [
        _loss("NF4", BITSANDBYTES, NF4_BITS, products, lambda each: nf4(each.weight, nested=False), None),
        _loss("NF4 double", BITSANDBYTES, NF4_NESTED_BITS, products, lambda each: nf4(each.weight, nested=True), None),
        _loss(
            "LLM.int8", BITSANDBYTES, eight, products, lambda each: int8(each.weight), lambda x: by_row(x, THRESHOLD)
        ),
    ]


def _llama_cpp(
    config: ModelConfig, products: Sequence[Product], work: Path, quantize: Callable[[Path, Path, str], None]
) -> list[Loss]:
    """Rows are filled up with zeros to whole super-blocks, which K-quants need; what the zeros take is not counted."""
    whole, found = work / "real.gguf", []
    order = list(dict.fromkeys(each.name.split(".")[2] for each in products))
    names = {
        each.name: each.name.replace(f".{(i := each.name.split('.')[2])}.", f".{order.index(i)}.") for each in products
    }
    geometry = replace(
        config, hidden_size=padded_size(config.hidden_size), num_attention_heads=config.num_key_value_heads
    )
    geometry = replace(geometry, num_hidden_layers=len(order), intermediate_size=padded_size(config.intermediate_size))
    write_gguf(whole, {f"{names[each.name]}.weight": _padded(each.weight) for each in products}, geometry)
    for asked, stored in QUANTIZATIONS.items():
        path = work / f"real-{asked.lower()}.gguf"
        quantize(whole, path, asked)
        read = read_gguf(path)
        if set(read.types.values()) != {stored}:
            raise ValueError(f"{path} holds {sorted(set(read.types.values()))}, not {stored} alone")
        bits = 8 * sum(read.sizes.values()) / sum(tensor.numel() for tensor in read.tensors.values())

        def restored(each: Product, tensors: dict[str, Tensor] = read.tensors) -> Tensor:
            return tensors[f"{names[each.name]}.weight"][:, : each.weight.shape[1]]

        rounding = of_gguf_type(stored)
        assert rounding is not None
        found.append(_loss(stored, LLAMA_CPP, bits, products, restored, _on_padded(rounding)))
        path.unlink()
    whole.unlink()
    return found


def _loss(
    name: str,
    family: str,
    bits: float,
    products: Sequence[Product],
    restored: Callable[[Product], Tensor],
    rounding: Rounding | None,
) -> Loss:
    weights, computed = [], []
    for each in products:
        exact, matrix = each.inputs @ each.weight.T, restored(each)
        rounded = each.inputs if rounding is None else rounding(each.inputs)
        weights.append(float((each.inputs @ matrix.T - exact).norm() / exact.norm()))
        computed.append(float((rounded @ matrix.T - exact).norm() / exact.norm()))
    return Loss(name, family, bits, _root_mean_square(weights), _root_mean_square(computed))


def padded_size(inputs: int) -> int:
    return -(-inputs // SUPER_BLOCK) * SUPER_BLOCK


def _padded(matrix: Tensor) -> Tensor:
    return F.pad(matrix, (0, padded_size(matrix.shape[-1]) - matrix.shape[-1]))


def _on_padded(rounding: Rounding) -> Rounding:
    return lambda x: rounding(_padded(x))[..., : x.shape[-1]]


def _root_mean_square(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))

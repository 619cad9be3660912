"""bitsandbytes' formats as the numbers they store, from bitsandbytes itself.

As Transformers loads a model with it: the matrices of the layers are quantized; embedding, lm_head, norms and biases
stay as they are in the checkpoint (16 bits).
"""

from __future__ import annotations

from torch import Tensor

BLOCK = 64
NESTED_BLOCK = 256
THRESHOLD = 6.0
"""Columns of activations beyond it are multiplied in full precision: the default, and that of the paper
(Dettmers et al., arXiv 2208.07339)."""

NF4_BITS = 4 + 32 / BLOCK
"""A 4-bit code, and an fp32 absmax for 64 weights."""
NF4_NESTED_BITS = 4 + (8 + 32 / NESTED_BLOCK) / BLOCK
"""The absmax itself in 8 bits, with an fp32 scale for 256 of them. The two tables of values are not counted: 1 kB a
matrix is nothing beside those of a 7B, and would be 3 % of the tiny model's."""


def int8_bits(inputs: int) -> float:
    """8 bits, and an fp32 scale for each output."""
    return 8 + 32 / inputs


def nf4(weight: Tensor, *, nested: bool) -> Tensor:
    """`weight` [out, in] as NF4 stores it, in fp32; `nested` with double quantization."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    codes, state = quantize_4bit(weight.float(), quant_type="nf4", blocksize=BLOCK, compress_statistics=nested)
    restored: Tensor = dequantize_4bit(codes, state)
    return restored.float()


def int8(weight: Tensor) -> Tensor:
    """`weight` [out, in] as LLM.int8 stores it, in fp32.

    On processors bitsandbytes multiplies just these numbers with activations as they are; only its GPU kernels round
    activations too.
    """
    from bitsandbytes.functional import int8_vectorwise_quant

    codes, largest, _ = int8_vectorwise_quant(weight.float().contiguous())
    restored: Tensor = codes.float() * (largest.float()[:, None] / 127)
    return restored

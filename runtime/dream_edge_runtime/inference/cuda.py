"""What ONNX Runtime's CUDA provider is told, and whether it took the graph over.

Names, values and restrictions are those of onnxruntime-gpu 1.31.1, read in its source and its libraries (docs/gpu.md
says where). None of it has been run on a GPU.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import DeviceUnavailable, DreamEdgeError, OutOfMemory
from ..format.recipe import WeightFormat

PROVIDER = "CUDAExecutionProvider"

ATTENTION = "memory-efficient"
_MEMORY_EFFICIENT = 2  # AttentionBackend::EFFICIENT_ATTENTION in attention_common.h

_FUSED_GEMM = "ORT_FPA_INTB_GEMM"
"""The environment variable that, where it is set, says whether 4- and 8-bit weights are multiplied as they are."""

_CPU_WOULD_BE_SLOW = {
    "Attention",
    "GatherBlockQuantized",
    "Gemm",
    "MatMulBnb4",
    "MatMulNBits",
    "RMSNormalization",
    "RotaryEmbedding",
    "TopK",
}
"""Operators that must not be left to the CPU. Shapes are computed there on purpose."""


def choose_providers() -> list[Any]:
    """For `InferenceSession`: CUDA, and the CPU for what computes shapes."""
    options = {
        "device_id": "0",
        # the default doubles the arena, and takes memory that nothing needs
        "arena_extend_strategy": "kSameAsRequested",
        # Flash attention takes no mask, and every pass has one. Named here, no environment variable changes the choice.
        "sdpa_kernel": str(_MEMORY_EFFICIENT),
    }
    return [(PROVIDER, options), "CPUExecutionProvider"]


def configure(options: Any) -> None:
    """Settings of a session on CUDA, into `options` (SessionOptions)."""
    # Weights that a kernel repacks are freed one by one. With a memory pattern they would lie in one block, which
    # stays, and in the arena, which keeps it: twice the memory in both cases.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if _FUSED_GEMM not in os.environ:  # this entry would win over it
        options.add_session_config_entry("ep.cuda.fpa_intb_gemm", "1")


def multiplies_packed(weights: WeightFormat, outputs: int, inputs: int) -> bool:
    """Whether `ep.cuda.fpa_intb_gemm` takes a matrix [outputs, inputs]; others are expanded to fp16 for each product.

    Of the wheel's compact kernels: groups of 32, symmetric, fp16 activations, compute capability 7.5 or higher.
    """
    return (
        weights.kind == "block"
        and weights.bits in (4, 8)
        and weights.block_size == 32
        and weights.symmetric
        and outputs % (32 if weights.bits == 8 else 64) == 0
        and inputs % weights.block_size == 0
        and os.environ.get(_FUSED_GEMM, "1").strip().lower() not in ("", "0", "off")
    )


def check_session(session: Any, graph: Path) -> None:
    """Raises DeviceUnavailable where ONNX Runtime left the model, or a costly part of it, to the CPU."""
    if PROVIDER not in session.get_providers():
        raise DeviceUnavailable(
            "cuda",
            f"ONNX Runtime loaded {graph} without its CUDA provider. See whether nvidia-smi lists the GPU and whether "
            'onnxruntime-gpu and its libraries are whole: pip install --force-reinstall "dream-edge[gpu]". '
            "Or run on the CPU: device='cpu' (--device cpu).",
        )
    left = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != PROVIDER
        for node in part.get_nodes()
    }
    if slow := sorted(left & _CPU_WOULD_BE_SLOW):
        raise DeviceUnavailable(
            "cuda",
            f"this version of ONNX Runtime leaves {', '.join(slow)} of {graph} to the CPU. Install version 1.31.1 or "
            "newer of onnxruntime-gpu, or run on the CPU: device='cpu' (--device cpu).",
        )


def explain_error(error: Exception) -> DreamEdgeError | None:
    """What an error of ONNX Runtime on CUDA means, if it is the GPU's and not the artifact's."""
    said = str(error)
    if "out of memory" in said or "Failed to allocate memory" in said or "CUBLAS_STATUS_ALLOC_FAILED" in said:
        return OutOfMemory(on_gpu=True)
    if any(sign in said for sign in ("CUDA failure", "CUDA error", "CUBLAS", "cuBLAS", "no kernel image")):
        return DeviceUnavailable(
            "cuda",
            f"the GPU failed ({said.splitlines()[0][:200]}). See nvidia-smi, update its driver, or run on the CPU: "
            "device='cpu' (--device cpu).",
        )
    return None

"""What ONNX Runtime's CUDA provider is told, and whether it took the graph over.

Names, values and restrictions are those of onnxruntime-gpu 1.31.1, read in its source and its libraries (docs/gpu.md
says where). None of it has been run on a GPU.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceUnavailable, DreamEdgeError, OutOfMemory
from ..format.recipe import WeightFormat

PROVIDER = "CUDAExecutionProvider"

ATTENTION = "memory-efficient"
_SHRINK = ("memory.enable_memory_arena_shrinkage", "gpu:0")  # after the run
_KEYS = 8  # of these a multiple
_ROWS = 32  # of logits
_MEMORY_EFFICIENT = 2  # AttentionBackend::EFFICIENT_ATTENTION in attention_common.h

_FUSED_GEMM = "ORT_FPA_INTB_GEMM"
"""The environment variable that, where it is set, says whether 4- and 8-bit weights are multiplied as they are."""

_TRIED = "ORT_FPA_INTB_PROFILE_M"
"""The environment variable that, where it is set, says for how many rows kernels for these weights are tried."""

TRIED_ROWS = 64
"""The most rows for which they are when a model is loaded."""

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
    if _TRIED not in os.environ:
        # The default is to try all with 1, 2, 4 … 2,048 rows at every start. These are what a block of 32 tokens takes;
        # others are tried in the first pass that has so many.
        options.add_session_config_entry("ep.cuda.fpa_intb_profile_m", f"1,32,{TRIED_ROWS}")


def pad_inputs(feeds: Mapping[str, NDArray[Any]], cached_padding: int) -> tuple[dict[str, NDArray[Any]], int]:
    """The inputs of a pass in sizes that kernels take, and how many of the active positions are padding now.

    The last position is repeated, masked, until the keys are a multiple of 8: plain attention, for other numbers, holds
    all scores in memory. The last row is repeated up to a multiple of 32: for each new number of rows all kernels of
    lm_head are tried. Of the cached positions the last `cached_padding` are padding already.
    """
    ids, mask, rows = feeds["input_ids"], feeds["attention_mask"], feeds["logit_rows"]
    active, queries, keys = ids.shape[1], *mask.shape[1:]
    padding = -(keys + cached_padding) % _KEYS
    places = [keys - active] * cached_padding + [keys] * padding
    moved = rows // active * (active + padding) + rows % active
    padded = {name: np.pad(feeds[name], ((0, 0), (0, padding)), mode="edge") for name in ("input_ids", "position_ids")}
    mask = np.insert(mask, places, False, axis=2)
    padded["attention_mask"] = np.pad(mask, ((0, 0), (0, padding), (0, 0)), mode="edge") if queries > 1 else mask
    padded["logit_rows"] = np.pad(moved, (0, -len(rows) % _ROWS), mode="edge") if len(rows) else rows
    return {**feeds, **padded}, padding


class Arena:
    """Runs the passes of a session, by any number of threads, in as little of the GPU's memory as they need.

    ONNX Runtime's arena keeps all it has taken and never joins its pieces, so each larger pass would add to it until
    the GPU is full, for good. Here it gives back what it does not use after each pass that is larger than any before,
    and when the memory is full.
    """

    def __init__(self) -> None:
        self._largest = (0, 0)
        self._lock = threading.Lock()

    def run(self, session: Any, binding: Any, options: Any, *, scores: int, rows: int) -> None:
        """A pass that computes so many `scores` of attention and `rows` of logits; again, if there was no memory."""
        with self._lock:
            before, self._largest = self._largest, (max(scores, self._largest[0]), max(rows, self._largest[1]))
            grows = before != self._largest
        if grows:
            options.add_run_config_entry(*_SHRINK)
        for _ in range(2):
            try:
                session.run_with_iobinding(binding, options)
            except Exception as error:  # ONNX Runtime has no common base class for its errors
                if options.terminate or not isinstance(explain_error(error), OutOfMemory):
                    raise
                options.add_run_config_entry(*_SHRINK)  # a pass that fails gives back too, and only at its end
            else:
                return
        session.run_with_iobinding(binding, options)


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

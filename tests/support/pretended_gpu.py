"""A GPU played by the CPU: what is asked of CUDA is noted down and done by ONNX Runtime's CPU provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from dream_edge_runtime.inference import devices, memory
from dream_edge_runtime.inference import onnx_network as session
from dream_edge_runtime.inference.devices import import_onnxruntime

onnxruntime = import_onnxruntime()

CUDA = "CUDAExecutionProvider"
SHRINK = "memory.enable_memory_arena_shrinkage"


@dataclass
class PretendedGpu:
    """What was asked of CUDA, and how it behaves."""

    providers: list[Any] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    """Where each output was bound, in the last pass."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """The tensors given in the last pass."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Last dimensions of inputs from the host, in the last pass."""
    created: list[str] = field(default_factory=list)
    """The devices of tensors that were made."""
    options: Any = None
    on_cpu: set[str] = field(default_factory=set)
    """Operators that the provider does not take."""
    absent: bool = False
    """The session comes out without the provider."""
    refusal: str = ""
    """What creating a session fails with."""
    failure: str = ""
    """What a pass fails with."""
    failures: int | None = None
    """How many passes do, if not all."""
    shrinking: list[bool] = field(default_factory=list)
    """Of each pass, whether the arena was to give back what it does not use."""


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, free: int | None = None) -> PretendedGpu:
    """From now on there is a GPU, with `free` bytes (None = it does not say)."""
    gpu = PretendedGpu()

    class Binding(onnxruntime.IOBinding):  # type: ignore[name-defined,misc]
        def bind_output(self, name: str, device_type: str = "cpu", device_id: int = 0) -> None:
            gpu.outputs[name] = device_type
            super().bind_output(name)

        def bind_cpu_input(self, name: str, array: Any) -> None:
            if name in ("input_ids", "attention_mask", "logit_rows"):
                gpu.sizes[name] = array.shape[-1]
            super().bind_cpu_input(name, array)

        def bind_ortvalue_input(self, name: str, value: Any) -> None:
            gpu.inputs[name] = value
            super().bind_ortvalue_input(name, value)

    class Session(onnxruntime.InferenceSession):  # type: ignore[name-defined,misc]
        def __init__(self, path: Any, options: Any, providers: list[Any], enable_fallback: int) -> None:
            assert not enable_fallback
            if gpu.refusal:
                raise RuntimeError(gpu.refusal)
            gpu.providers, gpu.options = providers, options
            super().__init__(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return [*([] if gpu.absent else [CUDA]), "CPUExecutionProvider"]

        def get_provider_graph_assignment_info(self) -> list[Any]:
            nodes = [node for part in super().get_provider_graph_assignment_info() for node in part.get_nodes()]
            left = [node for node in nodes if node.op_type in gpu.on_cpu | {"Shape"}]
            taken = [node for node in nodes if node not in left]
            return [
                SimpleNamespace(ep_name=CUDA, get_nodes=lambda: taken),
                SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: left),
            ]

        def io_binding(self) -> Any:
            return Binding(self)

        def run_with_iobinding(self, binding: Any, options: Any = None) -> None:
            gpu.shrinking.append(bool(_entry(options, SHRINK)))
            options.add_run_config_entry(SHRINK, "")  # the CPU has no arena of that name
            if gpu.failure and gpu.failures != 0:
                gpu.failures = gpu.failures and gpu.failures - 1
                raise RuntimeError(gpu.failure)
            super().run_with_iobinding(binding, options)

    class OrtValue(onnxruntime.OrtValue):  # type: ignore[name-defined,misc]
        @classmethod
        def ortvalue_from_shape_and_type(cls, shape: Any, dtype: Any, device: str, number: int) -> Any:
            gpu.created.append(device)
            return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, "cpu", number)

    monkeypatch.setenv("DREAM_EDGE_SELF_CHECK", "0")  # processors may sum in fp16, which a GPU does not
    changed = {"InferenceSession": Session, "OrtValue": OrtValue, "set_default_logger_severity": lambda _: None}
    module = SimpleNamespace(**{**vars(onnxruntime), **changed})
    monkeypatch.setattr(session, "import_onnxruntime", lambda: module)
    monkeypatch.setattr(devices, "cuda_problem", lambda: None)
    monkeypatch.setattr(memory, "free_gpu_memory", lambda: free)
    return gpu


def _entry(options: Any, name: str) -> str:
    try:
        return str(options.get_run_config_entry(name))
    except RuntimeError:  # it was never set
        return ""

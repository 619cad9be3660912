"""Where a model runs, and what is said about a machine that lacks for CUDA; libraries and drivers are faked."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import pytest

from dream_edge_runtime.errors import DeviceUnavailable, InvalidOption
from dream_edge_runtime.inference import devices
from dream_edge_runtime.inference.devices import choose_device, cuda_problem

BOTH = {"cpu": "model_cpu.onnx", "cuda": "model_cuda.onnx"}
HERE = Path("artifact")


class Driver:
    def __init__(self, version: int = 13000, status: int = 0, capability: tuple[int, int] = (8, 9)) -> None:
        self.version, self.status, self.capability = version, status, capability

    def cuInit(self, flags: int) -> int:  # noqa: N802 - NVIDIA's name
        return self.status

    def cuDriverGetVersion(self, pointer: Any) -> int:  # noqa: N802
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = self.version
        return 0

    def cuDeviceGet(self, pointer: Any, number: int) -> int:  # noqa: N802
        return number

    def cuDeviceGetAttribute(self, pointer: Any, attribute: int, device: Any) -> int:  # noqa: N802
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = self.capability[attribute - 75]
        return 0


def machine(
    monkeypatch: pytest.MonkeyPatch,
    *,
    provider: bool = True,
    driver: Driver | None = None,
    missing: tuple[str, ...] = (),
    cuda_version: str = "13.0",
) -> None:
    """A machine with ONNX Runtime for CUDA, a driver and every library, but for what is said."""

    class Module:
        @staticmethod
        def get_available_providers() -> list[str]:
            return [*(["CUDAExecutionProvider"] if provider else []), "CPUExecutionProvider"]

        @staticmethod
        def preload_dlls(cudnn: bool) -> None:
            assert not cudnn
            print("Failed to load something")  # noqa: T201 - as ONNX Runtime does

    def library(name: str) -> Any:
        if name in missing:
            raise OSError(name)
        return driver or Driver()

    Module.cuda_version = cuda_version  # type: ignore[attr-defined]
    monkeypatch.setattr(devices, "import_onnxruntime", lambda: Module)
    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setattr(sys, "platform", "linux")


def test_auto_takes_cuda_where_everything_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    assert cuda_problem() is None
    assert choose_device("auto", BOTH, HERE) == "cuda"
    assert choose_device("cuda", BOTH, HERE) == "cuda"
    assert choose_device("cpu", BOTH, HERE) == "cpu"


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0), (12, 1)])
def test_cards_that_onnx_runtime_has_kernels_for(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    machine(monkeypatch, driver=Driver(capability=capability))
    assert cuda_problem() is None


@pytest.mark.parametrize("capability", [(5, 2), (6, 1), (7, 0), (10, 0), (11, 0)])
def test_other_cards_are_refused(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    machine(monkeypatch, driver=Driver(capability=capability))
    with pytest.raises(DeviceUnavailable, match=r"compute capability {}\.{}\. .*RTX 30".format(*capability)):
        choose_device("cuda", BOTH, HERE)


def test_looking_for_libraries_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, missing=("libcublas.so.13",))
    assert choose_device("auto", BOTH, HERE) == "cpu"
    assert capsys.readouterr().out == ""


def test_auto_takes_the_cpu_without_a_graph_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    assert choose_device("auto", {"cpu"}, HERE) == "cpu"


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ({"provider": False}, r"pip uninstall -y onnxruntime, then pip install \"dream-edge\[gpu\]\""),
        ({"missing": ("libcuda.so.1",)}, "no NVIDIA driver.*580"),
        ({"driver": Driver(status=100)}, "cuInit says 100.*nvidia-smi"),
        ({"driver": Driver(version=12040)}, "CUDA 12.4.*needs 13.0.*driver 580"),
        ({"driver": Driver(version=11080), "cuda_version": "12.8"}, "CUDA 11.8.*needs 12.8.*driver 525"),
        ({"missing": ("libcublas.so.13",)}, r"libcublas.so.13 cannot be loaded.*dream-edge\[gpu\]"),
        ({"missing": ("libcurand.so.10",)}, "libcurand.so.10"),
    ],
)
def test_what_is_missing_is_said_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, lacking: dict[str, Any], said: str
) -> None:
    machine(monkeypatch, **lacking)
    assert choose_device("auto", BOTH, HERE) == "cpu"
    with pytest.raises(DeviceUnavailable, match=said) as caught:
        choose_device("cuda", BOTH, HERE)
    assert "--device cpu" in str(caught.value)


@pytest.mark.parametrize(("device", "held"), [("cuda", "cpu"), ("cpu", "cuda"), ("auto", "cuda")])
def test_artifact_without_the_graph_names_the_export(monkeypatch: pytest.MonkeyPatch, device: str, held: str) -> None:
    machine(monkeypatch, provider=False)
    with pytest.raises(DeviceUnavailable, match=r"holds graphs for: .*--target"):
        choose_device(device, {held}, HERE)


def test_unknown_device_is_refused() -> None:
    with pytest.raises(InvalidOption, match="device"):
        choose_device("tpu", BOTH, HERE)


def test_onnx_runtime_of_this_machine_is_asked() -> None:
    """Whatever it is: the answer is nothing, or a sentence."""
    problem = cuda_problem()
    assert problem is None or problem.endswith(".")

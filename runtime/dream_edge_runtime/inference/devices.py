"""Which graph runs where, and what a machine lacks for CUDA: said before anything is loaded, with the remedy."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import DeviceUnavailable, InvalidOption, MissingExtra
from ..format.recipe import Target
from ..host import open_nvidia_driver

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)

_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_DEFAULT_CUDA = "13.0"
_DRIVERS = {12: "525", 13: "580"}  # NVIDIA's CUDA compatibility table: the first driver branch for each CUDA
_KERNELS_FROM = (7, 5)  # ONNX Runtime's wheel has kernels for 7.5, 8.0, 8.6, 8.9, 9.0 and 12.0, and what runs them
_NO_KERNELS = (10, 11)
_INSTALL = 'pip uninstall -y onnxruntime, then pip install "dream-edge[gpu]"'


def choose_device(device: str, graphs: Collection[str], path: Path) -> Target:
    """Where an artifact with these `graphs` runs. "auto" is CUDA where the graph and everything it needs are there.

    Raises: InvalidOption, DeviceUnavailable, MissingExtra.
    """
    if device not in DEVICES:
        raise InvalidOption("device", device, f"must be one of {', '.join(DEVICES)}")
    if device == "auto":
        if "cuda" in graphs and cuda_problem() is None:
            return "cuda"
        device = "cpu"
    chosen: Target = "cuda" if device == "cuda" else "cpu"
    if chosen not in graphs:
        held = ", ".join(sorted(graphs))
        remedy = f"Export the checkpoint again with --target {chosen} (or all)."
        raise DeviceUnavailable(chosen, f"{path} holds graphs for: {held}. {remedy}")
    if chosen == "cuda" and (problem := cuda_problem()):
        raise DeviceUnavailable(chosen, f"{problem} Or run on the CPU: device='cpu' (--device cpu).")
    return chosen


def import_onnxruntime() -> Any:
    """ONNX Runtime, or how to install it. No hard dependency: the wheels for CPU and GPU exclude each other.

    Its wheels send telemetry, and write a device id into the user's cache, once they are imported: here they do not,
    unless the environment has ORT_DISABLE_TELEMETRY=0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module("onnxruntime")
    except ImportError:
        raise MissingExtra("Running a model", "cpu") from None


def cuda_problem() -> str | None:
    """The first thing that CUDA lacks here and what to do about it; None where nothing does. Sets up the libraries."""
    ort = import_onnxruntime()
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return f"the installed ONNX Runtime is the one for CPUs. Install the other: {_INSTALL}."
    needed = str(getattr(ort, "cuda_version", "") or _DEFAULT_CUDA)
    return _driver_problem(needed) or _library_problem(ort, needed)


def _driver_problem(needed: str) -> str | None:
    major = int(needed.split(".")[0])
    install = f"install NVIDIA's driver {_DRIVERS.get(major, '')} or newer".replace("  ", " ")
    driver = open_nvidia_driver()
    if driver is None:
        return f"there is no NVIDIA driver: {install}."
    if status := driver.cuInit(0):
        return f"the NVIDIA driver finds no usable GPU (cuInit says {status}). See whether nvidia-smi lists one."
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)):
        return f"the NVIDIA driver does not tell its version: {install}."
    if version.value // 1000 < major:
        found = f"{version.value // 1000}.{version.value % 1000 // 10}"
        return f"the NVIDIA driver is for CUDA {found} and ONNX Runtime needs {needed}: {install}."
    device, capability = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    if driver.cuDeviceGet(ctypes.byref(device), 0):
        return "the NVIDIA driver does not give access to the first GPU. See nvidia-smi and CUDA_VISIBLE_DEVICES."
    for value, attribute in zip(capability, _CAPABILITY, strict=True):
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    major, minor = (value.value for value in capability)
    if (major, minor) < _KERNELS_FROM or major in _NO_KERNELS:
        return (
            f"ONNX Runtime has no kernels for this GPU, of compute capability {major}.{minor}. It has some for 7.5 "
            "(GTX 16, RTX 20), 8 (RTX 30 and 40, A100), 9 (H100) and 12 (RTX 50)."
        )
    return None


def _library_problem(ort: Any, needed: str) -> str | None:
    major = needed.split(".")[0]
    if sys.platform == "win32":
        names = [f"cublas64_{major}.dll", f"cublasLt64_{major}.dll"]
    else:
        names = [f"libcudart.so.{major}", f"libcublas.so.{major}", f"libcublasLt.so.{major}", "libcurand.so.10"]
    if preload := getattr(ort, "preload_dlls", None):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find; the reply below says it
            preload(cudnn=False)  # makes the libraries of NVIDIA's wheels known by their names
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            return f'the CUDA library {name} cannot be loaded. Install it: pip install "dream-edge[gpu]".'
    return None

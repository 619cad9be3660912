"""Runs an artifact's graph with ONNX Runtime."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .artifact import Artifact
from .config import ModelConfig
from .contract import ACTIVATION_LEVELS, ACTIVATION_ZERO_POINT, SEVEN_BITS
from .errors import Cancelled, CorruptArtifact, DeviceUnavailable, InvalidOption, MissingExtra
from .network import Rows
from .recipe import matrix_shapes

DEVICES = ("auto", "cpu", "cuda")

_POLL_SECONDS = 0.02
_REDUCED = ("top_logits", "top_ids", "top_probs", "log_normalizer", "neg_entropy")


class OnnxNetwork:
    """A loaded graph. Immutable; any number of threads may call `forward` at once.

    Args:
        artifact: opened and thereby checked.
        device: "auto" or "cpu"; "cuda" needs an artifact with a graph for it.
        threads: for one pass; None = as many as the processor has cores.

    Raises: DeviceUnavailable, InvalidOption, MissingExtra, CorruptArtifact.
    """

    def __init__(self, artifact: Artifact, *, device: str = "auto", threads: int | None = None) -> None:
        if device not in DEVICES:
            raise InvalidOption("device", device, f"must be one of {', '.join(DEVICES)}")
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise InvalidOption("threads", threads, "must be a positive number of threads")
        graph = artifact.manifest.graphs.get("cpu")
        if graph is None or device == "cuda":
            held = ", ".join(sorted(artifact.manifest.graphs))
            raise DeviceUnavailable("cpu" if graph is None else device, f"{artifact.path} holds graphs for: {held}.")
        self.config: ModelConfig = artifact.manifest.config
        self._ort = import_onnxruntime()
        self._replaced: list[Any] = []
        options = self._session_options(artifact, threads)
        path = artifact.path / graph
        try:
            self._session = self._ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no common base class for its errors
            raise CorruptArtifact(path, f"ONNX Runtime refuses the graph ({_first_line(error)})") from None

    def forward(
        self,
        input_ids: NDArray[np.int64],
        position_ids: NDArray[np.int64],
        key_mask: NDArray[np.bool_],
        logit_rows: NDArray[np.int64],
        temperature: float,
        cancel: threading.Event | None = None,
    ) -> Rows:
        """One pass over the active positions; see `Network.forward`. Raises Cancelled once `cancel` is set."""
        if cancel is not None and cancel.is_set():
            raise Cancelled
        binding = self._session.io_binding()
        feeds = {
            "input_ids": input_ids,
            "position_ids": position_ids,
            "key_mask": key_mask,
            "logit_rows": logit_rows,
            "temperature": np.array(temperature, np.float32),
        }
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        empty = self._ort.OrtValue.ortvalue_from_numpy(
            np.zeros((len(input_ids), self.config.num_key_value_heads, 0, self.config.head_dim), np.float32)
        )
        for index in range(self.config.num_hidden_layers):
            binding.bind_ortvalue_input(f"past_key_values.{index}.key", empty)
            binding.bind_ortvalue_input(f"past_key_values.{index}.value", empty)
        for name in ("logits", *_REDUCED):
            binding.bind_output(name)
        options = self._ort.RunOptions()
        with _terminated_by(cancel, options):
            try:
                self._session.run_with_iobinding(binding, options)
            except Exception:
                if options.terminate:
                    raise Cancelled from None
                raise
        logits, *reduced = binding.get_outputs()
        return Rows(**dict(zip(_REDUCED, (value.numpy() for value in reduced), strict=True)), fetch_logits=logits.numpy)

    def _session_options(self, artifact: Artifact, threads: int | None) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = 3  # errors reach the caller as exceptions, warnings nobody
        options.intra_op_num_threads = threads or 0
        formats = artifact.manifest.recipe.targets["cpu"]
        if any(formats.of(name).kind == "row" for name in matrix_shapes(self.config)) and saturates():
            levels, zero_point = SEVEN_BITS
            self._replace(options, ACTIVATION_LEVELS, np.array(levels, np.float32))
            self._replace(options, ACTIVATION_ZERO_POINT, np.array(zero_point, np.uint8))
        return options

    def _replace(self, options: Any, name: str, value: NDArray[Any]) -> None:
        """Give the graph another constant than its own."""
        replacement = self._ort.OrtValue.ortvalue_from_numpy(value)
        self._replaced.append(replacement)  # ONNX Runtime does not keep it alive
        options.add_initializer(name, replacement)


@cache
def saturates() -> bool:
    """Whether this processor's u8 × s8 product loses integers that do not fit 16 bits (x64 without VNNI).

    Found out by multiplying: the probe's weights are all 127, so a row of 255s must give 64 · (255 - 128) · 127.
    """
    ort = import_onnxruntime()
    probe = resources.files(__package__).joinpath("saturation_probe.onnx").read_bytes()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(probe, options, providers=["CPUExecutionProvider"])
    product = session.run(None, {"activations": np.full((1, 64), 255, np.uint8)})[0]
    return bool((product != 64 * (255 - 128) * 127).any())


def import_onnxruntime() -> Any:
    """ONNX Runtime, or how to install it. No hard dependency: the wheels for CPU and GPU exclude each other."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError:
        raise MissingExtra("Running a model", "cpu") from None


@contextmanager
def _terminated_by(cancel: threading.Event | None, options: Any) -> Iterator[None]:
    """Ask ONNX Runtime to stop the pass that uses `options` soon after `cancel` is set."""
    if cancel is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if cancel.wait(_POLL_SECONDS):
                options.terminate = True
                return

    threading.Thread(target=watch, name="dream-edge-cancel", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__

"""Runs an artifact's graph with ONNX Runtime."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from ..artifact import Artifact
from ..errors import (
    ArtifactError,
    Cancelled,
    CorruptArtifact,
    DeviceUnavailable,
    DreamEdgeError,
    InvalidOption,
    OnnxRuntimeUnfit,
    OutOfMemory,
    TooLittleMemory,
)
from ..format.layout import plan_layout
from ..format.model_config import ModelConfig
from ..format.recipe import Target
from ..graph.model import derive_graph
from ..graph.signature import EIGHT_BITS, SEVEN_BITS, activation_dtype, key_value_names
from ..host import default_threads
from . import cuda
from .devices import choose_device, import_onnxruntime
from .memory import check_memory
from .network import REDUCED, KeyValues, Rows
from .self_check import check_products, saturates

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.02
# in positions: on CPUs measured from 0.5B to 7B, for weights in groups (4 bits) and others; on CUDA a guess
_OVERHEAD_IN_GROUPS, _OVERHEAD, _OVERHEAD_ON_CUDA = 4, 12, 256
_WEIGHTS_DIRECTORY = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class OnnxKeyValues:
    """Keys and values that a pass computed, kept for later passes: [batch, kv_heads, positions, head_dim]."""

    values: list[Any]
    """Of each layer in turn, tensors of ONNX Runtime in the memory of the device that computed them."""
    padding: int = 0
    """So many of the positions, the last ones, are only there for the size; see `cuda.pad_inputs`."""

    @classmethod
    def empty(cls, config: ModelConfig, batch: int, dtype: npt.DTypeLike, device: Target) -> OnnxKeyValues:
        """An empty cache."""
        shape = [batch, config.num_key_value_heads, 0, config.head_dim]
        tensor = import_onnxruntime().OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(dtype).type, device, 0)
        return cls([tensor] * (2 * config.num_hidden_layers))

    @property
    def count(self) -> int:
        positions: int = self.values[0].shape()[2]
        return positions - self.padding

    @property
    def nbytes(self) -> int:
        return sum(value.tensor_size_in_bytes() for value in self.values)

    def cut(self, start: int, stop: int) -> OnnxKeyValues:
        if (start, stop, self.padding) == (0, self.count, 0):
            return self
        return OnnxKeyValues([_move(value, value.numpy()[:, :, start:stop].copy()) for value in self.values])

    def append(self, *others: KeyValues) -> OnnxKeyValues:
        """Through the host's memory, also on CUDA: ONNX Runtime joins tensors only where a graph does."""
        if not others:
            return self
        parts = [self.values]
        for other in others:
            assert isinstance(other, OnnxKeyValues)
            parts.append(other.values)
        counts = [self.count, *(other.count for other in others)]
        return OnnxKeyValues(
            [
                _move(
                    layer[0],
                    np.concatenate(
                        [value.numpy()[:, :, :count] for value, count in zip(layer, counts, strict=True)], axis=2
                    ),
                )
                for layer in zip(*parts, strict=True)
            ]
        )

    def stack(self, sequences: Sequence[KeyValues | None]) -> OnnxKeyValues:
        """Through the host's memory, as `append`."""
        longest = max(each.count for each in sequences if each is not None)
        _, heads, _, width = self.values[0].shape()
        stacked = []
        for index, layer in enumerate(self.values):
            own = layer.numpy()
            joined = np.zeros((len(sequences), heads, longest, width), own.dtype)
            for row, each in zip(joined, sequences, strict=True):
                if each is not None:
                    assert isinstance(each, OnnxKeyValues)
                    row[:, : each.count] = each.values[index].numpy()[0, :, : each.count]
            stacked.append(_move(layer, joined))
        return OnnxKeyValues(stacked)

    def split(self, counts: Sequence[int]) -> list[OnnxKeyValues]:
        """Through the host's memory, as `append`."""
        layers = [(value, value.numpy()) for value in self.values]
        return [
            OnnxKeyValues([_move(value, array[row : row + 1, :, :count].copy()) for value, array in layers])
            for row, count in enumerate(counts)
        ]


def _move(value: Any, array: NDArray[Any]) -> Any:
    """A tensor of `array` where `value` is."""
    return import_onnxruntime().OrtValue.ortvalue_from_numpy(array, value.device_name(), 0)


class OnnxNetwork:
    """A loaded graph. Immutable; any number of threads may call `forward` at once.

    Args:
        artifact: opened and thereby checked.
        device: "auto", "cpu" or "cuda"; see `devices.choose_device`.
        threads: for one pass; None = one for each core that this process may use; see `host.default_threads`.
        graph: the target whose graph is run; None = the device's. "cuda" also runs on the CPU, slowly.
        memory_check: refuse to load what the free memory (on CUDA: the GPU's) cannot hold.
        self_check: try each kind of product first; DREAM_EDGE_SELF_CHECK=0 in the environment forbids it.

    On CUDA, token ids go to the GPU and the reduced outputs come back. Keys, values and full logits stay there; the
    logits are copied when they are asked for.

    Raises: DeviceUnavailable, InvalidOption, MissingExtra, CorruptArtifact, TooLittleMemory, OutOfMemory; WrongProduct
    and OnnxRuntimeUnfit where ONNX Runtime itself is the fault.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        device: str = "auto",
        threads: int | None = None,
        graph: Target | None = None,
        memory_check: bool = True,
        self_check: bool = True,
    ) -> None:
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise InvalidOption("threads", threads, "must be a positive number of threads")
        graphs = artifact.manifest.graphs
        self._device = choose_device(device, graphs if graph is None or device == "cuda" else {"cpu"}, artifact.path)
        if device == "auto" and self._device == "cuda" and memory_check and "cpu" in graphs:
            try:
                check_memory(artifact.path, artifact.manifest, "cuda", "cuda")
            except TooLittleMemory as error:
                _log.warning("Running on the CPU: %s", error)
                self._device = "cpu"
        self._target: Target = graph or self._device
        if self._target not in graphs:
            raise DeviceUnavailable(self._target, f"{artifact.path} holds graphs for: {', '.join(sorted(graphs))}.")
        self.config: ModelConfig = artifact.manifest.config
        self.keeps_keys: bool = True
        in_groups = artifact.manifest.recipe.targets[self._target].body.kind == "block"
        on_cpu = _OVERHEAD_IN_GROUPS if in_groups else _OVERHEAD
        self.pass_overhead: int = _OVERHEAD_ON_CUDA if self._device == "cuda" else on_cpu
        self._ort = import_onnxruntime()
        if memory_check:
            check_memory(artifact.path, artifact.manifest, self._target, self._device)
        self._path, self._threads = artifact.path, threads or default_threads()
        bits = SEVEN_BITS if self._device == "cpu" and saturates() else EIGHT_BITS
        directory, shards = _resolve_links(self._path, plan_layout(self.config, artifact.manifest.recipe).sizes())
        derived = derive_graph(self.config, artifact.manifest.recipe, self._target, shards=shards, bits=bits)
        self._session, self._arena = self._create(derived, directory), cuda.Arena()
        if self._device == "cuda":
            cuda.check_session(self._session, self._path)
        if self_check and self._target == self._device and os.environ.get("DREAM_EDGE_SELF_CHECK") != "0":
            check_products(artifact, self._target, bits, self._create)

    @property
    def device(self) -> Target:
        """Where it runs."""
        return self._device

    def _create(self, graph: bytes, directory: str = "") -> Any:
        """A session of `graph`, whose weights lie in files in `directory`."""
        options = self._options(directory)
        providers = cuda.choose_providers() if self._device == "cuda" else ["CPUExecutionProvider"]
        try:
            # its fallback would print to stdout and go on without CUDA
            return self._ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
        except Exception as error:  # ONNX Runtime has no common base class for its errors
            raise self._explain_refusal(error) from None

    def _options(self, directory: str) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = 4  # errors reach the caller as exceptions, warnings nobody
        options.intra_op_num_threads = self._threads
        options.add_session_config_entry(_WEIGHTS_DIRECTORY, directory)
        if self._device == "cuda":
            self._ort.set_default_logger_severity(3)  # it warns of a plugin that nobody asked for
            cuda.configure(options)
        return options

    def _explain_refusal(self, error: Exception) -> DreamEdgeError:
        said = str(error)
        if self._device == "cuda" and (problem := cuda.explain_error(error)):
            return problem
        if "Failed to allocate memory" in said or "bad_alloc" in said:
            return OutOfMemory()
        try:
            Artifact.open(self._path)  # were the weights cut or removed since?
        except ArtifactError as changed:
            return changed
        return OnnxRuntimeUnfit(self._ort.__version__, said)

    def forward(
        self,
        input_ids: NDArray[np.int64],
        position_ids: NDArray[np.int64],
        attention_mask: NDArray[np.bool_],
        logit_rows: NDArray[np.int64],
        temperature: float,
        cancel: threading.Event | None = None,
        *,
        past: KeyValues | None = None,
        keep: bool = False,
    ) -> Rows:
        """One pass over the active positions; see `Network.forward`. Raises Cancelled once `cancel` is set."""
        if cancel is not None and cancel.is_set():
            raise Cancelled
        binding, count, padding = self._session.io_binding(), len(logit_rows), 0
        if past is None:
            past = OnnxKeyValues.empty(self.config, len(input_ids), activation_dtype(self._target), self._device)
        assert isinstance(past, OnnxKeyValues)
        feeds: dict[str, NDArray[Any]] = {
            "input_ids": input_ids,
            "position_ids": position_ids,
            "attention_mask": attention_mask,
            "logit_rows": logit_rows,
            "temperature": np.array(temperature, np.float32),
        }
        if self._device == "cuda":
            feeds, padding = cuda.pad_inputs(feeds, past.padding)
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name, value in zip(key_value_names("past", self.config), past.values, strict=True):
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits", self._device, 0)
        for name in REDUCED:
            binding.bind_output(name)
        if keep:  # each costs 25 µs to bind and fetch
            for name in key_value_names("present", self.config):
                binding.bind_output(name, self._device, 0)
        options = self._ort.RunOptions()
        with _terminate_on(cancel, options):
            try:
                if self._device == "cuda":
                    scores = input_ids.size * attention_mask.shape[2]
                    self._arena.run(self._session, binding, options, scores=scores, rows=len(logit_rows))
                else:
                    self._session.run_with_iobinding(binding, options)
            except Exception as error:
                if options.terminate:
                    raise Cancelled from None
                if self._device == "cuda" and (problem := cuda.explain_error(error)):
                    raise problem from None
                if "Failed to allocate memory" in str(error) or "bad_alloc" in str(error):
                    raise OutOfMemory from None
                raise
        logits, *others = binding.get_outputs()
        reduced, present = others[: len(REDUCED)], others[len(REDUCED) :]
        return Rows(
            **dict(zip(REDUCED, (value.numpy()[:count] for value in reduced), strict=True)),
            fetch_logits=lambda: logits.numpy()[:count],
            key_values=OnnxKeyValues(present, padding) if keep else None,
        )


def _resolve_links(directory: Path, names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """A directory that really holds the files, and each one's name there.

    The caches of hubs lay files out as links to blobs; ONNX Runtime refuses files outside the directory it is told.
    """
    found = {name: (directory / name).resolve() for name in names}
    try:
        holding = os.path.commonpath([path.parent for path in found.values()])
    except ValueError:  # on Windows
        raise CorruptArtifact(directory, "its files lead to several drives") from None
    return holding, {name: path.relative_to(holding).as_posix() for name, path in found.items()}


@contextmanager
def _terminate_on(cancel: threading.Event | None, options: Any) -> Iterator[None]:
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

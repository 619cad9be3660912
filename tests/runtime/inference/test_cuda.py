"""`OnnxNetwork` on CUDA, played by the CPU: what it asks for, where data stays, and what is said of failures."""

from __future__ import annotations

import ctypes
import logging
from typing import Any

import numpy as np
import pytest

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import DeviceUnavailable, OnnxRuntimeUnfit, OutOfMemory, TooLittleMemory
from dream_edge_runtime.format.recipe import Recipe, WeightFormat
from dream_edge_runtime.host import free_gpu_memory
from dream_edge_runtime.inference import cuda
from dream_edge_runtime.inference.network import KeyValues, Rows
from dream_edge_runtime.inference.onnx_network import OnnxKeyValues, OnnxNetwork
from support.checkpoints import write_checkpoint
from support.pretended_gpu import pretend_gpu

REDUCED = {"top_logits", "top_ids", "top_probs", "log_normalizer", "neg_entropy"}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """For both targets."""
    directory = tmp_path_factory.mktemp("cuda")
    write_checkpoint(directory / "checkpoint", hidden_size=128, intermediate_size=256)
    return export(Checkpoint.open(directory / "checkpoint"), directory / "out", Recipe.for_scheme("int4", target="all"))


def full_pass(network: OnnxNetwork, tokens: int = 8, past: KeyValues | None = None, cached: int = 0) -> Rows:
    ids = np.random.default_rng(tokens).integers(network.config.vocab_size, size=(1, tokens))
    mask = np.ones((1, 1, cached + tokens), bool)
    positions = np.arange(cached, cached + tokens)[None]
    return network.forward(ids, positions, mask, np.arange(tokens), 0.0, past=past, keep=True)


def test_only_reduced_outputs_leave_the_gpu(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = pretend_gpu(monkeypatch)
    full_pass(OnnxNetwork(artifact, device="cuda"))
    on_host = {name for name, place in gpu.outputs.items() if place == "cpu"}
    assert on_host == REDUCED
    kept = {name for name, place in gpu.outputs.items() if place == "cuda"}
    assert kept == {"logits"} | {f"present_key_values.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")}
    assert set(gpu.created) == {"cuda"}  # also the empty past


def test_keys_and_values_are_fed_back_as_they_are(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = pretend_gpu(monkeypatch)
    network = OnnxNetwork(artifact, device="cuda")
    first = full_pass(network)
    full_pass(network, tokens=4, past=first.key_values, cached=8)
    assert isinstance(first.key_values, OnnxKeyValues)
    assert list(gpu.inputs.values()) == first.key_values.values  # the very tensors


def test_padding_changes_nothing(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any sizes, of two sequences at once, beside what other passes left padded."""
    passes = []
    for device in ("cpu", "cuda"):
        if device == "cuda":
            gpu = pretend_gpu(monkeypatch)
        network, random = OnnxNetwork(artifact, device=device, graph="cuda"), np.random.default_rng(7)
        ids, mask = random.integers(network.config.vocab_size, size=(2, 13)), np.ones((2, 1, 18), bool)
        mask[1, 0, 2:5] = False
        positions = np.arange(13) + np.zeros((2, 1), np.int64)
        first = network.forward(ids, positions, mask[..., :13], np.array([3, 12, 13, 25]), 0.0, keep=True)
        later = network.forward(
            ids[:, :5], positions[:, :5], mask, np.array([0, 9, 4]), 0.0, past=first.key_values, keep=True
        )
        assert first.key_values is not None
        assert later.key_values is not None
        joined = first.key_values.append(later.key_values)
        again = network.forward(
            ids[:, :1], positions[:, :1], np.ones((2, 1, 19), bool), np.arange(2), 0.0, past=joined.cut(0, 18)
        )
        passes.append((first, later, again))
    for plain, padded in zip(*passes, strict=True):
        np.testing.assert_allclose(padded.fetch_logits(), plain.fetch_logits(), atol=2e-3)
        np.testing.assert_allclose(padded.log_normalizer, plain.log_normalizer, atol=2e-3)
        assert padded.top_ids.shape == plain.top_ids.shape
    assert gpu.sizes == {"input_ids": 6, "attention_mask": 24, "logit_rows": 32}  # 18 cached, 1 + 5 active


def test_the_arena_gives_back_after_a_larger_pass(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = pretend_gpu(monkeypatch)
    network = OnnxNetwork(artifact, device="cuda")
    for tokens in (8, 8, 5, 9, 8, 9):
        full_pass(network, tokens)
    assert gpu.shrinking == [True, False, False, True, False, False]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_pass_is_tried_again_when_the_memory_was_full(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    gpu = pretend_gpu(monkeypatch)
    network = OnnxNetwork(artifact, device="cuda")
    full_pass(network)
    gpu.failure, gpu.failures = "CUDA failure 2: out of memory", failures
    full_pass(network)
    assert gpu.shrinking == [True, False, True, True][: 2 + failures]


def test_other_failures_of_a_pass_are_not_tried_again(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = pretend_gpu(monkeypatch)
    network = OnnxNetwork(artifact, device="cuda")
    gpu.failure = "CUDA failure 700: an illegal memory access was encountered"
    with pytest.raises(DeviceUnavailable):
        full_pass(network)
    assert len(gpu.shrinking) == 1


def test_passes_are_those_of_the_graph_on_the_cpu(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = full_pass(OnnxNetwork(artifact, device="cpu", graph="cuda"))
    pretend_gpu(monkeypatch)
    found = full_pass(OnnxNetwork(artifact, device="cuda"))
    assert (found.fetch_logits() == plain.fetch_logits()).all()
    assert (found.top_ids == plain.top_ids).all()


def test_options_of_the_provider(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_FPA_INTB_GEMM", raising=False)
    gpu = pretend_gpu(monkeypatch)
    OnnxNetwork(artifact, device="cuda")
    (name, options), second = gpu.providers
    assert (name, second) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["sdpa_kernel"] == "2"
    assert options["arena_extend_strategy"] == "kSameAsRequested"
    assert not gpu.options.enable_mem_pattern
    assert gpu.options.get_session_config_entry("ep.cuda.fpa_intb_gemm") == "1"
    assert gpu.options.get_session_config_entry("ep.cuda.fpa_intb_profile_m") == "1,32,64"
    assert gpu.options.get_session_config_entry("session.use_device_allocator_for_initializers") == "1"


def test_environment_decides_about_the_fused_product(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = WeightFormat(kind="block", bits=4, block_size=32)
    assert cuda.multiplies_packed(weights, 128, 128)
    monkeypatch.setenv("ORT_FPA_INTB_GEMM", "0")
    gpu = pretend_gpu(monkeypatch)
    OnnxNetwork(artifact, device="cuda")
    with pytest.raises(RuntimeError):  # not set
        gpu.options.get_session_config_entry("ep.cuda.fpa_intb_gemm")
    assert not cuda.multiplies_packed(weights, 128, 128)
    monkeypatch.setenv("ORT_FPA_INTB_PROFILE_M", "16")
    OnnxNetwork(artifact, device="cuda")
    with pytest.raises(RuntimeError):
        gpu.options.get_session_config_entry("ep.cuda.fpa_intb_profile_m")


@pytest.mark.parametrize(
    ("changes", "outputs", "inputs"),
    [
        ({"block_size": 128}, 128, 128),
        ({"symmetric": False}, 128, 128),
        ({}, 96, 128),
        ({}, 128, 48),
        ({"bits": 8}, 48, 128),
    ],
)
def test_what_the_fused_product_does_not_take(changes: dict[str, Any], outputs: int, inputs: int) -> None:
    weights = WeightFormat(**{"kind": "block", "bits": 4, "block_size": 32, **changes})
    assert not cuda.multiplies_packed(weights, outputs, inputs)


def test_a_session_without_the_provider_is_refused(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch).absent = True
    with pytest.raises(DeviceUnavailable, match=r"without its CUDA provider.*--device cpu"):
        OnnxNetwork(artifact, device="cuda")


def test_costly_operators_on_the_cpu_are_refused(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch).on_cpu = {"Attention", "Concat"}
    with pytest.raises(DeviceUnavailable, match=r"leaves Attention of .*to the CPU"):
        OnnxNetwork(artifact, device="cuda")


@pytest.mark.parametrize("said", ["CUDA failure 2: out of memory", "Failed to allocate memory for requested buffer"])
def test_a_full_gpu_is_said_when_loading_and_when_running(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    gpu = pretend_gpu(monkeypatch)
    network = OnnxNetwork(artifact, device="cuda")
    gpu.failure = gpu.refusal = said
    with pytest.raises(OutOfMemory, match="--block-length"):
        full_pass(network)
    with pytest.raises(OutOfMemory, match="--scheme int4"):
        OnnxNetwork(artifact, device="cuda")


def test_other_failures_are_told_apart(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = pretend_gpu(monkeypatch)
    gpu.refusal = "CUDA failure 209: no kernel image is available for execution on the device"
    with pytest.raises(DeviceUnavailable, match="nvidia-smi"):
        OnnxNetwork(artifact, device="cuda")
    gpu.refusal = "Load model failed: invalid protobuf"
    with pytest.raises(OnnxRuntimeUnfit, match="invalid protobuf"):
        OnnxNetwork(artifact, device="cuda")


def test_too_little_memory_names_what_would_help(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, free=1000)
    with pytest.raises(TooLittleMemory, match=r"of the GPU's memory.*--device cpu.*--no-memory-check"):
        OnnxNetwork(artifact, device="cuda")
    OnnxNetwork(artifact, device="cuda", memory_check=False)


def test_auto_takes_the_cpu_where_the_gpu_is_too_small(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = pretend_gpu(monkeypatch, free=1000)
    with caplog.at_level(logging.WARNING):
        OnnxNetwork(artifact)
    assert gpu.providers == ["CPUExecutionProvider"]
    assert "Running on the CPU" in caplog.text
    gpu = pretend_gpu(monkeypatch, free=1 << 40)
    OnnxNetwork(artifact)
    assert gpu.providers[0][0] == "CUDAExecutionProvider"


# --- the driver ------------------------------------------------------------------------------------------------------


class Driver:
    """libcuda, with `free` bytes, that fails where it is told to."""

    def __init__(self, free: int, failing: str = "") -> None:
        self.free, self.failing, self.called = free, failing, list[str]()

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: Any) -> int:
            self.called.append(name)
            if name == "cuMemGetInfo_v2":
                ctypes.cast(arguments[0], ctypes.POINTER(ctypes.c_size_t))[0] = self.free
            return 2 if name == self.failing else 0

        return function


def test_free_memory_is_asked_in_the_context_and_it_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(5 << 30)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    assert free_gpu_memory() == 5 << 30
    assert driver.called.count("cuDevicePrimaryCtxRetain") == driver.called.count("cuDevicePrimaryCtxRelease_v2") == 1
    assert driver.called.index("cuCtxPopCurrent_v2") > driver.called.index("cuMemGetInfo_v2")


@pytest.mark.parametrize("failing", ["cuInit", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuMemGetInfo_v2"])
def test_a_driver_that_does_not_say(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    driver = Driver(1, failing)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    assert free_gpu_memory() is None
    retained = failing not in ("cuInit", "cuDevicePrimaryCtxRetain")
    assert ("cuDevicePrimaryCtxRelease_v2" in driver.called) == retained


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert free_gpu_memory() is None

"""`OnnxNetwork`: rows, determinism, cancelling, devices, and exact integers on processors that saturate."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.quantize.grid import encode_linear
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import (
    Cancelled,
    CorruptArtifact,
    DeviceUnavailable,
    InvalidOption,
    MissingExtra,
    OutOfMemory,
)
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import ROW, SCHEMES, Recipe
from dream_edge_runtime.graph.signature import ACTIVATION_LEVELS, ACTIVATION_ZERO_POINT, EIGHT_BITS, SEVEN_BITS
from dream_edge_runtime.inference import onnx_network as session
from dream_edge_runtime.inference import self_check
from dream_edge_runtime.inference.devices import import_onnxruntime
from dream_edge_runtime.inference.network import Rows
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.inference.self_check import saturates
from support.arithmetic import dequantized, quantized_rows, saturating_product
from support.artifacts import GRAPH, WEIGHTS, make_artifact
from support.checkpoints import random_weights, write_checkpoint, write_weights


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("session"), "fp32")


def canvas(config: ModelConfig, lengths: list[int], seed: int = 0) -> tuple[IntArray, IntArray, BoolArray]:
    """Random ids, positions and attention mask of sequences padded on the left."""
    valid = np.arange(max(lengths)) >= max(lengths) - np.array(lengths)[:, None]
    ids = np.random.default_rng(seed).integers(config.vocab_size, size=valid.shape)
    return ids, np.maximum(valid.cumsum(axis=1) - 1, 0), valid[:, None]


# --- rows ------------------------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_reference_in_the_order_asked(artifact: Artifact) -> None:
    network = OnnxNetwork(artifact, threads=1)
    ids, positions, valid = canvas(network.config, [9, 5])
    rows = np.array([17, 3, 14])
    found = network.forward(ids, positions, valid, rows, 0.0)
    checkpoint = Checkpoint.open(artifact.path.parent / "checkpoint")
    logits = load_reference(checkpoint)(torch.from_numpy(ids), torch.from_numpy(valid[:, 0])).numpy()
    expected = logits.reshape(18, -1)[rows]
    assert np.abs(found.fetch_logits() - expected).max() <= 1e-5 * np.abs(expected).max()
    assert (found.top_ids[:, 0] == expected.argmax(axis=1)).all()
    assert found.count == 3


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
def test_reduced_outputs_are_those_of_the_host(artifact: Artifact, temperature: float) -> None:
    """The graph and `Rows.from_logits` are two programs for the same thing."""
    network = OnnxNetwork(artifact, threads=1)
    ids, positions, valid = canvas(network.config, [12])
    found = network.forward(ids, positions, valid, np.arange(12), temperature)
    host = Rows.from_logits(found.fetch_logits(), temperature)
    assert (found.top_ids == host.top_ids).all()
    np.testing.assert_allclose(found.top_logits, host.top_logits, rtol=1e-6)
    np.testing.assert_allclose(found.top_probs, host.top_probs, rtol=1e-5)
    np.testing.assert_allclose(found.log_normalizer, host.log_normalizer, rtol=1e-5)
    np.testing.assert_allclose(found.neg_entropy, host.neg_entropy, rtol=1e-5)


def test_taken_rows_are_some_of_them(artifact: Artifact) -> None:
    network = OnnxNetwork(artifact, threads=1)
    ids, positions, valid = canvas(network.config, [6])
    found = network.forward(ids, positions, valid, np.arange(6), 1.0)
    taken = found.take(np.array([4, 1]))
    assert (taken.top_ids == found.top_ids[[4, 1]]).all()
    assert (taken.fetch_logits() == found.fetch_logits()[[4, 1]]).all()


def test_keys_and_values_are_kept_when_asked_for(artifact: Artifact) -> None:
    network = OnnxNetwork(artifact, threads=1)
    ids, positions, valid = canvas(network.config, [9])
    full = network.forward(ids, positions, valid, np.arange(9), 0.0, keep=True)
    assert network.forward(ids, positions, valid, np.arange(9), 0.0).key_values is None
    mask = np.append(np.arange(9) < 6, np.ones(3, bool))[None, None]  # the last three are computed again
    part = network.forward(ids[:, 6:], positions[:, 6:], mask, np.arange(3), 0.0, past=full.key_values)
    np.testing.assert_allclose(part.fetch_logits(), full.fetch_logits()[6:], rtol=0, atol=1e-4)


def test_keys_and_values_are_cut_and_joined(artifact: Artifact) -> None:
    """A pass on the beginnings of two kept passes says what one on all of them says."""
    network = OnnxNetwork(artifact, threads=1)
    ids, positions, valid = canvas(network.config, [9])
    full = network.forward(ids, positions, valid, np.arange(9), 0.0, keep=True)
    assert full.key_values is not None
    config = network.config
    assert full.key_values.nbytes == 4 * 2 * config.num_hidden_layers * 9 * config.kv_size
    first = full.key_values.cut(0, 2)
    later = network.forward(ids[:, 2:], positions[:, 2:], valid, np.arange(7), 0.0, past=first, keep=True).key_values
    assert later is not None
    joined = first.append(later.cut(0, 4))
    assert (full.key_values.count, first.count, later.count, joined.count) == (9, 2, 7, 6)
    part = network.forward(ids[:, 6:], positions[:, 6:], valid, np.arange(3), 0.0, past=joined)
    seen = network.forward(ids[:, 6:], positions[:, 6:], valid, np.arange(3), 0.0, past=full.key_values.cut(0, 6))
    mixed = network.forward(ids[:, 6:], positions[:, 6:], valid, np.arange(3), 0.0, past=later.cut(0, 4).append(first))
    pieces = full.key_values.cut(0, 1).append(full.key_values.cut(1, 4), full.key_values.cut(4, 6))
    pieced = network.forward(ids[:, 6:], positions[:, 6:], valid, np.arange(3), 0.0, past=pieces)
    assert (pieced.fetch_logits() == seen.fetch_logits()).all()
    for each in (part, seen, mixed):  # in any order
        np.testing.assert_allclose(each.fetch_logits(), full.fetch_logits()[6:], rtol=0, atol=1e-4)


def test_arrays_that_are_not_contiguous_are_read_right(artifact: Artifact) -> None:
    network = OnnxNetwork(artifact, threads=1)
    ids, positions, valid = canvas(network.config, [6, 6])
    doubled = np.repeat(ids, 2, axis=1)[:, ::2]
    first, second = (network.forward(x, positions, valid, np.arange(12), 1.0).fetch_logits() for x in (ids, doubled))
    assert (first == second).all()


# --- determinism -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_threads_change_no_bit(tmp_path: Path, scheme: str) -> None:
    """Wide enough that the work is really divided."""
    made = make_artifact(tmp_path, scheme, hidden_size=256, intermediate_size=512)
    config = made.manifest.config
    ids, positions, valid = canvas(config, [64, 50])
    rows = np.arange(ids.size)
    one, two = (OnnxNetwork(made, threads=threads) for threads in (1, 2))
    first, again, other = (network.forward(ids, positions, valid, rows, 0.7) for network in (one, one, two))
    for found in (again, other):
        assert (found.fetch_logits() == first.fetch_logits()).all()
        for name in ("top_logits", "top_ids", "top_probs", "log_normalizer", "neg_entropy"):
            assert (getattr(found, name) == getattr(first, name)).all(), name


def test_one_network_serves_threads_at_once(artifact: Artifact) -> None:
    network = OnnxNetwork(artifact, threads=1)
    inputs = [canvas(network.config, [20], seed) for seed in range(4)]
    alone = [network.forward(*each, np.arange(20), 1.0).fetch_logits() for each in inputs]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(10):
            if (network.forward(*inputs[index], np.arange(20), 1.0).fetch_logits() != alone[index]).any():
                wrong.append(index)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelled_before_the_pass_does_not_run(artifact: Artifact) -> None:
    network = OnnxNetwork(artifact, threads=1)
    cancel = threading.Event()
    cancel.set()
    for _ in range(5):
        with pytest.raises(Cancelled):
            network.forward(*canvas(network.config, [4]), np.arange(4), 1.0, cancel)


def test_a_pass_that_does_not_fit_the_memory_names_a_remedy(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def io_binding(self) -> Any:
            return MagicMock()

        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 90000000000")

    network = OnnxNetwork(artifact, threads=1)
    monkeypatch.setattr(network, "_session", Full())
    with pytest.raises(OutOfMemory, match=r"fewer tokens \(-n\)") as found:
        network.forward(*canvas(network.config, [4]), np.arange(4), 1.0)
    assert "GPU" not in str(found.value)


def test_cancelled_while_it_runs_stops_soon_and_leaves_the_network_usable(tmp_path: Path) -> None:
    made = make_artifact(tmp_path, "fp32", hidden_size=256, intermediate_size=2048, num_hidden_layers=8)
    network = OnnxNetwork(made, threads=1)
    inputs = canvas(network.config, [500] * 4)
    started = time.perf_counter()
    network.forward(*inputs, np.arange(4), 1.0, threading.Event())
    whole = time.perf_counter() - started
    cancel = threading.Event()
    threading.Timer(whole / 10, cancel.set).start()
    started = time.perf_counter()
    with pytest.raises(Cancelled):
        network.forward(*inputs, np.arange(4), 1.0, cancel)
    assert time.perf_counter() - started < 0.7 * whole + 0.1
    assert network.forward(*canvas(network.config, [4]), np.arange(4), 1.0, threading.Event()).count == 4


def test_no_thread_is_left_behind(artifact: Artifact) -> None:
    network = OnnxNetwork(artifact, threads=1)
    before = threading.active_count()
    for _ in range(20):
        network.forward(*canvas(network.config, [4]), np.arange(4), 1.0, threading.Event())
    time.sleep(0.2)
    assert threading.active_count() <= before


# --- opening ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"device": "tpu"}, {"threads": 0}, {"threads": -1}, {"threads": 1.5}, {"threads": True}]
)
def test_impossible_options_are_refused(artifact: Artifact, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(options))):
        OnnxNetwork(artifact, **options)


def test_device_without_a_graph_is_refused(artifact: Artifact) -> None:
    with pytest.raises(DeviceUnavailable, match="cuda"):
        OnnxNetwork(artifact, device="cuda")


def test_weights_that_onnx_runtime_refuses_are_an_artifact_error(tmp_path: Path) -> None:
    """Opening finds them first, unless they are cut after it."""
    made = make_artifact(tmp_path, "fp32")
    os.truncate(made.path / WEIGHTS, 1000)
    with pytest.raises(CorruptArtifact, match="it has 1000 bytes, the manifest says"):
        OnnxNetwork(made)


def test_without_onnx_runtime_the_extra_is_named(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"dream-edge\[cpu\]"):
        OnnxNetwork(artifact)


# --- processors that saturate ----------------------------------------------------------------------------------------


def probe_activations() -> NDArray[np.uint8]:
    return np.full((1, 64), 255, np.uint8)


def test_saturating_instruction_would_be_noticed_by_the_probe() -> None:
    """vpmaddubsw adds two products in 16 bits: 2 · 255 · 127 = 64770 becomes 32767, which no zero point repairs."""
    activations, weights = probe_activations(), np.full((64, 16), 127, np.int8)
    exact = activations.astype(np.int64) @ weights.astype(np.int64)
    saturated = saturating_product(activations, weights)
    assert (exact - 128 * weights.astype(np.int64).sum(axis=0) == 64 * (255 - 128) * 127).all()
    assert (saturated == 32 * 32767).all()
    assert (saturated != exact).all()


@pytest.mark.parametrize("wrong", [False, True])
def test_probe_compares_with_the_exact_product(monkeypatch: pytest.MonkeyPatch, wrong: bool) -> None:
    weights = np.full((64, 16), 127, np.int8)

    class Session:
        def __init__(self, probe: bytes, *_: object, **__: object) -> None:
            onnx.checker.check_model(probe, full_check=True)
            held = {each.name: each for each in onnx.load_from_string(probe).graph.initializer}
            tensors = [onnx.numpy_helper.to_array(each) for each in held.values()]
            assert any(each.dtype == np.int8 and (each == weights).all() for each in tensors)

        def run(self, _: object, feeds: dict[str, NDArray[np.uint8]]) -> list[FloatArray]:
            activations = feeds["activations"]
            exact = activations.astype(np.int64) @ weights.astype(np.int64)
            product = saturating_product(activations, weights) if wrong else exact
            return [(product - 128 * weights.astype(np.int64).sum(axis=0)).astype(np.float32)]

    real = import_onnxruntime()

    class Module:
        SessionOptions = real.SessionOptions
        InferenceSession = Session

    monkeypatch.setattr(self_check, "import_onnxruntime", lambda: Module)
    assert saturates.__wrapped__() is wrong


def test_graph_itself_has_eight_bit_activations(tmp_path: Path) -> None:
    made = make_artifact(tmp_path, "int8")
    model = onnx.load(made.path / GRAPH, load_external_data=False)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    names = (ACTIVATION_LEVELS, ACTIVATION_ZERO_POINT)
    assert tuple(onnx.numpy_helper.to_array(held[name]).item() for name in names) == EIGHT_BITS


def test_activations_get_seven_bits_where_the_processor_saturates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers that add nothing: logits are one product of the normalised embedding, whose integers are known."""
    monkeypatch.setattr(session, "saturates", lambda: True)
    made, weights = make_plain(tmp_path)
    network = OnnxNetwork(made, threads=1)
    ids, positions, valid = canvas(network.config, [7])
    found = network.forward(ids, positions, valid, np.arange(7), 1.0).fetch_logits()
    hidden = weights["model.embed_tokens.weight"].numpy()[ids[0]]
    hidden = hidden / np.sqrt((hidden**2).mean(axis=1, keepdims=True) + np.float32(1e-6))
    codes, scale = quantized_rows(hidden.astype(np.float32), *SEVEN_BITS)
    matrix = dequantized(encode_linear(weights["lm_head.weight"], ROW), ROW, network.config.hidden_size)
    expected = (codes.astype(np.float64) - SEVEN_BITS[1]) * scale @ matrix.T
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def make_plain(directory: Path) -> tuple[Artifact, dict[str, torch.Tensor]]:
    """An int8 artifact whose hidden states are the rows of its embedding, to 8 bits exactly; and its weights."""
    config = write_checkpoint(directory / "checkpoint")
    weights = random_weights(config)
    for name, tensor in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.zero_()
    generator = torch.Generator().manual_seed(3)
    integers = torch.randint(-128, 128, weights["model.embed_tokens.weight"].shape, generator=generator)
    integers[:, 0] = -128  # the extreme of each group has the code -128, so that all others are whole codes
    weights["model.embed_tokens.weight"].copy_(integers / 64)
    weights["model.norm.weight"].fill_(1.0)
    write_weights(directory / "checkpoint", weights)
    made = export(Checkpoint.open(directory / "checkpoint"), directory / "artifact", Recipe.for_scheme("int8"))
    return made, weights


def test_seven_bit_activations_never_saturate() -> None:
    """By construction: 2 · 127 · 127 = 32258 fits 16 bits. Eight bits do not: 2 · 255 · 127 = 64770."""
    most = {levels: zero + levels for levels, zero in (EIGHT_BITS, SEVEN_BITS)}
    assert 2 * most[63] * 127 < 2**15 <= 2 * most[127] * 127
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.standard_normal((20, 64)), np.ones((1, 64)), -np.ones((1, 64))]).astype(np.float32)
    weights = np.concatenate([rng.integers(-127, 128, (64, 30)), np.full((64, 1), 127), np.full((64, 1), -127)], axis=1)
    for bits, exact in ((SEVEN_BITS, True), (EIGHT_BITS, False)):
        codes, _ = quantized_rows(rows, *bits)
        product = saturating_product(codes, weights.astype(np.int8))
        assert (product == codes.astype(np.int64) @ weights).all() == exact


@pytest.mark.parametrize("scheme", ["fp32", "fp16"])
def test_other_schemes_have_no_activations_to_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(session, "saturates", lambda: True)
    OnnxNetwork(make_artifact(tmp_path, scheme), threads=1)  # naming a constant that is not there would be an error


def test_extreme_integers_come_out_exact_on_this_machine(tmp_path: Path) -> None:
    """All weights of the network alike and all activations alike: every pair of products is as large as it can be."""
    config = write_checkpoint(tmp_path / "checkpoint")
    weights = random_weights(config)
    for name, tensor in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.zero_()  # the layers add nothing: hidden = embedding
    weights["model.embed_tokens.weight"].fill_(1.0)
    weights["model.norm.weight"].fill_(1.0)
    weights["lm_head.weight"].copy_(torch.full_like(weights["lm_head.weight"], 0.5))
    write_weights(tmp_path / "checkpoint", weights)
    made = export(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "artifact", Recipe.for_scheme("int8"))
    found = OnnxNetwork(made, threads=1).forward(*canvas(config, [7]), np.arange(7), 1.0).fetch_logits()
    np.testing.assert_allclose(found, config.hidden_size * 0.5, rtol=2e-5)

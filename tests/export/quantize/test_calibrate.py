"""Calibrated exports: what they change, what they leave, and that they go on where they stopped."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.output.staging import locate_staging
from dream_edge_export.plan import plan_export
from dream_edge_export.quantize.calibrate import CalibrationSet, check_calibration
from dream_edge_export.reference import layerwise
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.arrays import FloatArray, IntArray
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.progress import Progress
from support.checkpoints import write_checkpoint
from support.family import FAMILY, write_family_checkpoint
from support.graphs import Graph
from support.networks import small_config
from support.outliers import write_with_outliers

INT4 = Recipe.for_scheme("int4", block_size=32)


def canvases(count: int = 24, seed: int = 0) -> tuple[IntArray, ...]:
    """Of a few tokens: as in texts, the inputs of a matrix are then far from independent."""
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, 24, rng.integers(5, 40)) for _ in range(count))


SEEN = CalibrationSet("random", canvases())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory = tmp_path_factory.mktemp("calibrate") / "checkpoint"
    write_checkpoint(directory, num_hidden_layers=2)
    return Checkpoint.open(directory)


@pytest.fixture(scope="module")
def calibrated(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export(checkpoint, tmp_path_factory.mktemp("artifact") / "int4", INT4, calibration=SEEN)


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def logits(artifact: Artifact, canvas: IntArray) -> FloatArray:
    positions = np.arange(len(canvas))
    network = OnnxNetwork(artifact, threads=1)
    block = positions // (network.config.causal_block or len(canvas))
    seen = block[None, None, :] <= block[None, :, None]
    return network.forward(canvas[None], positions[None], seen, positions, 0.0, None).fetch_logits()


def error(artifact: Artifact, checkpoint: Checkpoint) -> float:
    """Mean square error of the logits on canvases that no calibration has seen."""
    reference, errors = load_reference(checkpoint), []
    for canvas in canvases(6, seed=9):
        with torch.inference_mode():
            expected = reference(torch.from_numpy(canvas)[None])[0].numpy()
        errors.append(np.square(logits(artifact, canvas) - expected).mean())
    return float(np.mean(errors))


def test_numbers_change_and_the_graph_does_not(checkpoint: Checkpoint, calibrated: Artifact, tmp_path: Path) -> None:
    plain, better = contents(export(checkpoint, tmp_path / "rtn", INT4).path), contents(calibrated.path)
    assert plain.keys() == better.keys()
    assert plain["model_cpu.onnx"] == better["model_cpu.onnx"]
    assert len(plain["weights-00001.bin"]) == len(better["weights-00001.bin"])
    assert plain["weights-00001.bin"] != better["weights-00001.bin"]
    calibrated.verify()


def test_manifest_and_card_name_method_and_data(calibrated: Artifact) -> None:
    tokens = sum(map(len, SEEN.canvases))
    rounding = f"gptq (random, 24 masked sequences, {tokens} tokens, {SEEN.digest[:12]})"
    assert calibrated.manifest.recipe == replace(INT4, rounding=rounding)
    assert f"| rounding | {rounding} |" in (calibrated.path / "README.md").read_text("utf-8")


SLOW = [pytest.param(scheme, marks=pytest.mark.slow) for scheme in ("mixed", "int8")]


@pytest.mark.parametrize("scheme", ["int4", "nf4", *SLOW])
def test_calibrated_artifact_is_nearer_to_the_reference(checkpoint: Checkpoint, tmp_path: Path, scheme: str) -> None:
    size = None if scheme == "int8" else 64 if scheme == "nf4" else 32
    recipe = Recipe.for_scheme(scheme, layers=2, block_size=size)
    plain = export(checkpoint, tmp_path / "rtn", recipe)
    better = export(checkpoint, tmp_path / "gptq", recipe, calibration=SEEN)
    # random weights have no outliers that int8 would suffer from
    most = 1.1 if scheme == "int8" else 0.9
    assert error(better, checkpoint) < most * error(plain, checkpoint)


@pytest.mark.parametrize("name", ["bd3lm-Qwen3-0.6B", "Fast_dLLM_v2_1.5B"])
def test_calibration_goes_by_the_form_of_the_network(tmp_path: Path, name: str) -> None:
    """Blocks, a head that is the embedding; with norms of heads and without biases, and the other way round.

    int8 folds most. With blocks unseen by the calibration, or other columns of a shared head, nothing would be right.
    """
    family = write_family_checkpoint(tmp_path / name, **FAMILY[name])
    for recipe, most in ((Recipe.for_scheme("int8"), 1.1), (INT4, 0.9)):
        plain = export(family, tmp_path / f"{recipe.scheme}-rtn", recipe)
        better = export(family, tmp_path / f"{recipe.scheme}-gptq", recipe, calibration=SEEN)
        assert error(better, family) < most * error(plain, family)


@pytest.mark.parametrize("scheme", ["int8", pytest.param("int4", marks=pytest.mark.slow)])
def test_outliers_that_change_nothing_cost_nothing(checkpoint: Checkpoint, tmp_path: Path, scheme: str) -> None:
    write_with_outliers(checkpoint.path, tmp_path / "outliers", checkpoint.config, factor=32)
    outliers = Checkpoint.open(tmp_path / "outliers")
    with torch.inference_mode():
        ids = torch.from_numpy(canvases(1)[0])[None]
        torch.testing.assert_close(load_reference(outliers)(ids), load_reference(checkpoint)(ids), rtol=1e-4, atol=1e-4)
    recipe = Recipe.for_scheme(scheme)
    plain = error(export(outliers, tmp_path / "rtn", recipe), checkpoint)
    better = error(export(outliers, tmp_path / "gptq", recipe, calibration=SEEN), checkpoint)
    undisturbed = error(export(checkpoint, tmp_path / "undisturbed", recipe, calibration=SEEN), checkpoint)
    assert better < 1.5 * undisturbed
    assert better < plain / 5


@pytest.mark.parametrize("at", [0.1, 0.6])
def test_next_run_goes_on_and_ends_with_the_same_bytes(
    checkpoint: Checkpoint, calibrated: Artifact, tmp_path: Path, at: float
) -> None:
    out = tmp_path / "out"

    def stop(state: Progress) -> None:
        if state.task == "calibrating" and state.done >= at * state.total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, out, INT4, calibration=SEEN, progress=stop)
    assert not out.exists()
    assert plan_export(checkpoint, INT4, SEEN).kept_bytes(out) > 0
    seen: list[Progress] = []
    export(checkpoint, out, INT4, calibration=SEEN, progress=seen.append)
    assert seen[0].task == "calibrating"
    assert seen[0].done == int(at * 2)  # whole layers
    assert seen[-1].task == "exporting"
    assert contents(out) == contents(calibrated.path)
    assert not locate_staging(out).exists()


def test_finished_calibration_is_not_repeated(checkpoint: Checkpoint, calibrated: Artifact, tmp_path: Path) -> None:
    def stop(state: Progress) -> None:
        if state.task == "exporting" and state.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, tmp_path / "out", INT4, calibration=SEEN, progress=stop)
    tasks: list[str] = []
    export(checkpoint, tmp_path / "out", INT4, calibration=SEEN, progress=lambda state: tasks.append(state.task))
    assert set(tasks) == {"exporting"}
    assert contents(tmp_path / "out") == contents(calibrated.path)


def test_other_sequences_begin_anew(checkpoint: Checkpoint, calibrated: Artifact, tmp_path: Path) -> None:
    def stop(state: Progress) -> None:
        if state.done >= 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, tmp_path / "out", INT4, calibration=CalibrationSet("other", canvases(seed=3)), progress=stop)
    export(checkpoint, tmp_path / "out", INT4, calibration=SEEN)
    assert contents(tmp_path / "out") == contents(calibrated.path)


def test_batches_hold_every_canvas_once_and_none_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layerwise, "TOKENS_AT_ONCE", 64)
    batches = layerwise.make_batches(SEEN.canvases, small_config(), pad=False)
    assert all(batch.mask.all() for batch in batches)
    rows = [tuple(row.tolist()) for batch in batches for row in batch.ids]
    assert sorted(rows) == sorted(tuple(canvas.tolist()) for canvas in SEEN.canvases)
    assert [batch.first for batch in batches] == [
        sum(other.tokens for other in batches[:index]) for index in range(len(batches))
    ]
    assert max(batch.tokens for batch in batches) <= 64


def test_order_of_threads_does_not_matter_but_the_sequences_do() -> None:
    assert SEEN.digest == CalibrationSet("other name", canvases()).digest
    assert SEEN.digest != CalibrationSet("random", canvases(seed=1)).digest


@pytest.mark.parametrize("scheme", ["fp32", "fp16"])
def test_schemes_that_round_nothing_are_refused(checkpoint: Checkpoint, tmp_path: Path, scheme: str) -> None:
    with pytest.raises(InvalidOption, match="rounds to 4 or 8 bits"):
        export(checkpoint, tmp_path / "out", Recipe.for_scheme(scheme), calibration=SEEN)
    assert list(tmp_path.iterdir()) == []


def test_two_targets_are_refused() -> None:
    with pytest.raises(InvalidOption, match="one target at a time"):
        check_calibration(Recipe.for_scheme("int4", target="all"))


def test_a_graph_for_cuda_is_calibrated_too(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", num_hidden_layers=1, hidden_size=128)
    checkpoint = Checkpoint.open(tmp_path / "checkpoint")
    export(checkpoint, tmp_path / "out", Recipe.for_scheme("int4", target="cuda"), calibration=SEEN).verify()


def test_largest_values_of_the_mlp_are_told_and_kept(
    checkpoint: Checkpoint, calibrated: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the graph computes them on the same sequences, but for its 8-bit activations."""
    nodes = [node for node in Graph(calibrated).model.graph.node if "mlp.down_proj/MatMulNBits" in node.name]
    values = {"silu_gate_up": [node.input[0] for node in nodes], "down_proj": [node.output[0] for node in nodes]}
    graph = Graph(calibrated, extra=[*values["silu_gate_up"], *values["down_proj"]])
    outputs = [graph.full_pass(ids[None], np.ones((1, len(ids)), bool)) for ids in SEEN.canvases]
    found = calibrated.manifest.provenance["largest_values"]
    for name, inside in values.items():
        expected = max(np.abs(each[value]).max() for each in outputs for value in inside)
        assert found[name] == pytest.approx(expected, rel=0.02)
    with caplog.at_level(logging.INFO):
        export(checkpoint, tmp_path / "again", INT4, calibration=SEEN)
    assert f"|down_proj| up to {found['down_proj']:.5g}. A graph for CUDA holds 1.0481e+06." in caplog.text


@pytest.mark.parametrize("name", ["two\nlines", "x" * 200])
def test_names_are_a_line(name: str) -> None:
    with pytest.raises(InvalidOption):
        CalibrationSet(name, canvases(1))


def test_nothing_to_see_is_refused() -> None:
    with pytest.raises(InvalidOption):
        CalibrationSet("empty", ())


def test_weights_that_no_calibration_touches_are_rounded_to_nearest(
    checkpoint: Checkpoint, calibrated: Artifact, tmp_path: Path
) -> None:
    """The embedding comes first in the shard and is the same as without calibration."""
    plain = export(checkpoint, tmp_path / "rtn", INT4)
    size = load_file(checkpoint.path / "model.safetensors")["model.embed_tokens.weight"].numel()
    ours, theirs = ((each.path / "weights-00001.bin").read_bytes()[:size] for each in (calibrated, plain))
    assert ours == theirs

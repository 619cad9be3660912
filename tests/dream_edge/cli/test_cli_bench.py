"""`dream-edge bench`: what it measures, on which stream, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from dream_edge.benchmark import timing
from dream_edge.benchmark.bench import bench
from dream_edge.benchmark.timing import operations, time_pass
from dream_edge.cli.app import app
from dream_edge_export.export import export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import CanvasTooLong, InvalidOption
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.inference.devices import import_onnxruntime
from dream_edge_runtime.inference.network import Rows
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.progress import Progress
from support.family import FAMILY, write_family_checkpoint
from support.processes import run_python

FEW = ("--canvas", "40", "-n", "6", "--repeats", "1")


@pytest.fixture(autouse=True)
def small_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that takes no time: what is reached does not matter here."""
    monkeypatch.setattr(timing.gemm_peak, "__kwdefaults__", {"size": 64, "threads": None})


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_one_json_object_holds_every_figure(random_artifact: Path) -> None:
    result = run(random_artifact, *FEW, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [(each["canvas"], each["active"]) for each in found["passes"]] == [(40, 40), (40, 32)]
    assert [(each["cache"], each["new_tokens"]) for each in found["generations"]] == [("none", 6), ("dual", 6)]
    assert set(found["peaks"]) == {"int8", "fp32"}
    assert found["compared_with"] == "int8"
    for each in (*found["passes"], found["load"], *found["generations"]):
        assert each["seconds"] > 0
    for each in found["passes"]:
        assert each["share_of_peak"] > 0
    for each in found["generations"]:
        assert each["passes"] in (5, 6)
        assert each["tokens_per_second"] == pytest.approx(6 / each["seconds"])


def test_a_block_causal_model_has_one_cache_and_its_own_block(tmp_path: Path) -> None:
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", **FAMILY["DreamReasoner-8B"])
    made = export(checkpoint, tmp_path / "artifact", Recipe.for_scheme("int8", layers=2))
    found = bench(made.path, canvases=[40], new_tokens=6, repeats=1)
    assert [each.cache for each in found.generations] == ["none"]
    assert [each.active for each in found.passes] == [40, made.manifest.config.causal_block]


def test_table_goes_to_stdout(random_artifact: Path) -> None:
    result = run(random_artifact, *FEW)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["40", "tokens", "40", "0"] in [line[:4] for line in lines]
    assert ["40", "tokens", "32", "8"] in [line[:4] for line in lines]
    assert ["dual", "6"] in [line[:2] for line in lines]
    assert "Gop/s int8" in result.stdout


def test_progress_counts_every_pass(random_artifact: Path) -> None:
    seen: list[Progress] = []
    bench(random_artifact, canvases=[8, 40], new_tokens=6, repeats=2, progress=seen.append)
    total = 2 * 3 + (1 + 3) + 2 * 6  # two full passes three times, a cached one three times, two texts
    assert [each.done for each in seen] == list(range(total + 1))
    assert {(each.task, each.total, each.unit) for each in seen} == {("timing", total, "passes")}


def test_bad_values_are_refused_before_anything_is_timed(random_artifact: Path) -> None:
    for arguments, word in (
        (("--canvas", "0"), "--canvas"),
        (("--canvas", "9999999"), "context"),
        (("-n", "0"), "-n"),
        (("--repeats", "0"), "--repeats"),
        (("--threads", "0"), "--threads"),
    ):
        result = run(random_artifact, *arguments)
        assert result.exit_code == 2
        assert word in result.stderr
        assert result.stdout == ""
    with pytest.raises(CanvasTooLong):
        bench(random_artifact, new_tokens=10_000_000)
    with pytest.raises(InvalidOption, match="repeats"):
        bench(random_artifact, repeats=0)


def test_a_place_without_artifact_is_one_line(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "no artifact here" in result.stderr
    assert result.stderr.count("\n") == 1


def test_needs_no_more_than_running_does() -> None:
    program = """
import json, sys
for name in ("torch", "transformers", "onnx", "safetensors"):
    sys.modules[name] = None
from dream_edge.benchmark.bench import bench
found = bench("tiny", canvases=[64], new_tokens=2, repeats=1)
print(json.dumps(found.peaks))
"""
    run = run_python(program)
    assert run.returncode == 0, run.stderr
    assert all(speed > 1e9 for speed in json.loads(run.stdout).values())


@pytest.mark.parametrize("kind", ["int8", "fp32"])
def test_the_written_graph_is_the_product_it_claims_to_be(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by onnx, which knows nothing of how it was written, and run: the result is numpy's."""
    onnxruntime = import_onnxruntime()
    written: list[bytes] = []

    def record(model: bytes, *given: Any, **named: Any) -> Any:
        written.append(model)
        return onnxruntime.InferenceSession(model, *given, **named)

    runtime = SimpleNamespace(SessionOptions=onnxruntime.SessionOptions, InferenceSession=record)
    monkeypatch.setattr(timing, "import_onnxruntime", lambda: runtime)
    assert timing.gemm_peak(kind, size=32) > 0
    model = onnx.load_from_string(written[0])
    onnx.checker.check_model(model)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
    activations = np.random.default_rng(1).integers(0, 128, (256, 32))
    fed = activations.astype(np.uint8 if kind == "int8" else np.float32)
    got = onnxruntime.InferenceSession(written[0], providers=["CPUExecutionProvider"]).run(None, {"x": fed})[0]
    np.testing.assert_allclose(got, (activations - (64 if kind == "int8" else 0)) @ weight, rtol=1e-4, atol=1e-2)


def test_operations_are_those_of_plain_loops(random_artifact: Path) -> None:
    config = Artifact.open(random_artifact).manifest.config
    hidden, kv, inner = config.hidden_size, config.kv_size, config.intermediate_size
    layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * inner  # q, o; k, v; gate, up, down
    heads = config.num_attention_heads * 2 * 7 * config.head_dim  # 7 keys: scores and weighted sum
    one_token = config.num_hidden_layers * (layer + heads) + hidden * config.vocab_size
    assert operations(config, 3, 7) == 2 * 3 * one_token


def test_a_cached_pass_computes_the_block_only(random_artifact: Path) -> None:
    network = OnnxNetwork(Artifact.open(random_artifact))
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    class Watched:
        config, keeps_keys, pass_overhead = network.config, True, network.pass_overhead

        def forward(self, *given: Any, **named: Any) -> Rows:
            seen.append((given, named))
            return network.forward(*given, **named)

    assert time_pass(Watched(), 48, 2, block=32) > 0
    (whole, _), *blocks = seen
    assert whole[0].shape == (1, 48)
    assert len(blocks) == 3
    for given, named in blocks:
        ids, positions, mask = given[:3]
        assert ids.shape == (1, 32)
        assert positions[0].tolist() == list(range(8, 40))
        assert mask[0, 0, :48].tolist() == [not 8 <= place < 40 for place in range(48)]
        assert mask[0, 0, 48:].all()
        assert named["past"] is not None

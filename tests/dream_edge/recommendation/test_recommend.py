"""`dream_edge.recommend`, its verb, and the probe: mocked where the machine does not matter, real on a tiny network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import dream_edge
from dream_edge.benchmark.timing import time_pass
from dream_edge.cli.app import app
from dream_edge.recommendation import probe as probing
from dream_edge.recommendation import recommend as recommending
from dream_edge.recommendation.candidates import Machine
from dream_edge.recommendation.probe import Network, Speed, cut_slice, probe, time_slice, write_noise
from dream_edge.recommendation.published import PUBLISHED
from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.layout import plan_layout
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Scheme
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.progress import Progress
from support.family import FAMILY
from support.networks import small_config
from support.processes import run_python


@pytest.fixture
def laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, 3 GB free, 600 Gop/s."""
    here = Machine(processor="a laptop", threads=2, free_memory=3 * 10**9)

    def reckon(networks: Sequence[Network], **_: Any) -> list[Speed]:
        return [
            Speed(network=each, full=2 * each.operations(256) / 6e11, cached=2 * each.operations(32) / 6e11)
            for each in networks
        ]

    monkeypatch.setattr(Machine, "here", lambda *_: here)
    monkeypatch.setattr(recommending, "probe", reckon)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["recommend", *arguments])


def networks(*names: str, scheme: Scheme = "int8") -> list[Network]:
    return [Network(config=small_config(**FAMILY[name]), scheme=scheme, device="cpu") for name in names]


CANDIDATE = {
    "repository": str,
    "license": str | None,
    "non_commercial": bool,
    "purpose": str,
    "thinks": bool,
    "parameters": int,
    "attention": str,
    "scores": dict,
    "scores_source": str | None,
    "scheme": str,
    "device": str,
    "download_bytes": int,
    "artifact_bytes": int,
    "memory_bytes": int,
    "fits": bool | None,
    "tokens_per_pass": float,
    "tokens_per_pass_source": str | None,
    "seconds_per_full_pass": float | None,
    "seconds_per_cached_pass": float | None,
    "measured": bool,
    "seconds_per_answer": float | None,
    "commands": list,
}


@pytest.mark.usefixtures("laptop")
def test_one_json_object_holds_every_model_and_scheme() -> None:
    result = run("--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    found = json.loads(result.stdout)
    assert set(found) == {
        "machine",
        "prompt_tokens",
        "new_tokens",
        "patience_seconds",
        "probe",
        "recommended",
        "candidates",
    }
    assert found["machine"] == {
        "processor": "a laptop",
        "threads": 2,
        "free_memory": 3 * 10**9,
        "gpu": False,
        "free_gpu_memory": None,
    }
    assert found["recommended"] == found["candidates"][0]
    assert len(found["candidates"]) == 2 * len(PUBLISHED)
    for each in found["candidates"]:
        assert each.keys() == CANDIDATE.keys()
        for name, kind in CANDIDATE.items():
            assert isinstance(each[name], kind), name


@pytest.mark.usefixtures("laptop")
def test_the_table_says_what_to_take_and_how_to_get_it() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert "3.0 GB free" in result.stdout
    for model in PUBLISHED:
        assert model.repository in result.stdout
    assert "Salesforce/CoDA-v0-Instruct* " in result.stdout
    assert "Dream-org/DreamReasoner-8B+ " in result.stdout
    assert "does not fit" in result.stdout
    assert "2 tokens a pass, which is an assumption" in result.stdout
    advice = result.stdout[result.stdout.index("Take ") :].splitlines()
    assert advice[0].startswith("Take Efficient-Large-Model/Fast_dLLM_v2_1.5B as int8 (chat; apache-2.0)")
    assert advice[1:3] == [
        "  dream-edge pull Efficient-Large-Model/Fast_dLLM_v2_1.5B",
        "  dream-edge export Efficient-Large-Model/Fast_dLLM_v2_1.5B Fast_dLLM_v2_1.5B-int8 --scheme int8",
    ]


@pytest.mark.usefixtures("laptop")
def test_what_takes_longer_than_asked_is_said_to() -> None:
    result = run("--patience", "0.5")
    assert "though not within 0.5 s" in result.stdout


def test_where_nothing_fits_the_tiny_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Machine(processor="a watch", threads=1, free_memory=10**8)
    monkeypatch.setattr(Machine, "here", lambda *_: here)
    found = dream_edge.recommend()
    assert found.best is None
    assert json.loads(json.dumps(found.to_dict()))["recommended"] is None
    result = run()
    assert result.exit_code == 0
    assert "No published model fits" in result.stdout
    assert "generate tiny" in result.stdout


def test_bad_values_are_refused_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommending, "probe", lambda *_, **__: pytest.fail("timed"))
    for options in (
        {"new_tokens": 0},
        {"prompt_tokens": 1 << 30},
        {"patience": 0.0},
        {"patience": float("nan")},
        {"threads": 0},
    ):
        with pytest.raises(InvalidOption, match=next(iter(options))):
            dream_edge.recommend(**options)
    for arguments in (("-n", "0"), ("--patience", "-1"), ("--threads", "0"), ("--prompt-tokens", "x")):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("name", FAMILY)
def test_a_slice_of_every_form_runs(name: str, scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_REPEATS", 1)
    (network,) = networks(name, scheme=scheme)
    speed = time_slice(network)
    assert speed.network == network
    assert speed.full > 0
    assert speed.cached > 0


def test_a_slice_is_an_even_part_of_the_network() -> None:
    config = next(model.config for model in PUBLISHED if model.repository.endswith("Dream-v0-Instruct-7B"))
    cut, times = cut_slice(config, 3)
    assert (cut.num_hidden_layers, cut.vocab_size, times) == (3, round(152064 * 3 / 28), 28 / 3)
    assert cut_slice(config, 28)[1] == 1
    whole = Network(config=config, scheme="int8", device="cpu").operations(256)
    part = Network(config=cut, scheme="int8", device="cpu").operations(256)
    assert part * times == pytest.approx(whole, rel=1e-3)


def test_noise_is_what_an_artifact_of_that_recipe_holds(tmp_path: Path) -> None:
    """Every file has its size, and what comes of it is finite."""
    (network,) = networks("mdlm-Qwen3-0.6B", scheme="int4")
    artifact = write_noise(tmp_path, network)
    sizes = plan_layout(network.config, network.recipe).sizes()
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == sizes
    stored = {
        place.spec.name: artifact.map_tensor(place) for place in plan_layout(network.config, network.recipe).places
    }
    first, second = (stored[f"model.layers.{layer}.mlp.up_proj.weight"] for layer in range(2))
    assert not np.array_equal(first, second)  # ONNX Runtime keeps equal ones once
    loaded = OnnxNetwork(artifact, self_check=False)
    ids, positions = np.zeros((1, 4), np.int64), np.arange(4)[None]
    rows = loaded.forward(ids, positions, np.ones((1, 1, 4), bool), np.arange(4), 0.0)
    assert np.isfinite(rows.fetch_logits()).all()


def test_the_first_of_each_kind_is_timed_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(probing, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(probing, "time_slice", lambda network, **_: Speed(network=network, full=1, cached=1))
    names = ("mdlm-Qwen3-0.6B", "Fast_dLLM_v2_7B")
    seen: list[Progress] = []
    given = networks(*names) + networks(*names, scheme="int4")
    found = probe(given, progress=seen.append)
    assert [each.network for each in found] == [given[0], given[2]]
    assert (seen[-1].done, seen[-1].total) == (4, 4)


def test_a_pass_can_ask_for_fewer_rows() -> None:
    asked: list[int] = []

    class Counting:
        config: ModelConfig = small_config()

        def forward(self, *given: Any, **_: Any) -> None:
            asked.append(len(given[3]))

    time_pass(Counting(), 16, 1, rows=4)  # type: ignore[arg-type]
    time_pass(Counting(), 16, 1)  # type: ignore[arg-type]
    assert asked == [4, 4, 16, 16]


def test_needs_no_more_than_running_does() -> None:
    program = """
import json, sys
for name in ("torch", "transformers", "onnx", "safetensors", "typer", "rich"):
    sys.modules[name] = None
from dream_edge.recommendation import candidates, recommend
smallest = candidates.PUBLISHED[:1]
candidates.PUBLISHED = smallest
found = recommend.recommend(new_tokens=32)
print(json.dumps(found.to_dict()))
"""
    finished = run_python(program)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert all(each["seconds_per_answer"] > 0 for each in found["candidates"] if each["fits"] is not False)

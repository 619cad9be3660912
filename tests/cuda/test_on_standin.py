"""The GPU's path on a stand-in for CUDA's libraries: ONNX Runtime's own placement, kernels and memory, but no results.

tools/cuda_standin says what that is. Sizes are those of Dream 7B, whose weights are zeros that take no disk.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.cuda_standin.card import missing, run_on_standin
from tools.cuda_standin.prepare import ROOT
from tools.cuda_standin.sparse import SCHEMES, dream_7b, dreamreasoner_8b, qwen3_06b, write_sparse

pytestmark = [
    pytest.mark.cuda_standin,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
    pytest.mark.xdist_group("cuda_standin"),
]

SCENARIOS = Path(__file__).with_name("scenarios.py")
MIB = 1 << 20


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two layers: their kernels and pieces of memory are those of all 28."""
    directory = tmp_path_factory.mktemp("standin")
    for scheme in SCHEMES:
        write_sparse(dream_7b(layers=2), scheme, directory / scheme)
        write_sparse(dreamreasoner_8b(layers=2), scheme, directory / "8b" / scheme)
        write_sparse(qwen3_06b(layers=2), scheme, directory / "0.6b" / scheme)
    return directory


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dream 7B in int4, with all of its layers."""
    return write_sparse(dream_7b(), "int4", tmp_path_factory.mktemp("whole") / "int4")


def play(name: str, *artifacts: Path, libraries: str = "lib", sm: int = 89, **environment: str) -> dict[str, Any]:
    """What a scenario found with each artifact. Nothing but its result may be printed."""
    given = {"STANDIN_GB": "24", **environment}
    done = run_on_standin(SCENARIOS, name, *artifacts, environment=given, libraries=libraries, sm=sm)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(("geometry", "sm"), [("", 75), ("", 89), ("", 120), ("8b", 89), ("0.6b", 89)])
def test_every_scheme_loads_and_runs_on_the_card_alone(artifacts: Path, tmp_path: Path, geometry: str, sm: int) -> None:
    """Block-causal networks under a mask for each query; the 0.6B's head is its embedding."""
    paths = [artifacts / geometry / scheme for scheme in SCHEMES]
    for scheme, found in play("loading", *paths, sm=sm, STANDIN_LOG=str(tmp_path / "log")).items():
        assert found["on_cpu"] == ["Concat", "Concat"], scheme  # of shapes, which CUDA leaves in the host's memory
        assert found["copies_between_devices"] == []
        assert not found["cudnn"]
        assert found["refused"] == []  # every launch is within CUDA's limits
        assert found["expected"] <= found["held"] <= found["expected"] + 64 * 1024, scheme
        assert found["peak"] <= found["expected_peak"] + 64 * 1024, scheme
        assert found["launches"] <= (112 if scheme != "nf4" else 130), scheme
        assert len(found["attention"]) == 1, scheme  # the memory-efficient kernel, in every layer
        assert found["plain_attention"] == [], scheme
        assert sum(found["copied_back"]) <= 32 * 32 * 16 + 2 * 32 * 4, scheme


def test_few_kernels_are_tried_at_load(artifacts: Path, tmp_path: Path) -> None:
    """A twentieth of the work that ONNX Runtime would do by default, for 12 numbers of rows instead of 3."""
    every = ",".join(str(1 << power) for power in range(12))
    for scheme in ("int4", "int8"):
        path, log = artifacts / scheme, str(tmp_path / scheme)
        now = play("loading", path, STANDIN_LOG=log)[scheme]
        before = play("loading", path, STANDIN_LOG=log, ORT_FPA_INTB_PROFILE_M=every)[scheme]
        assert 0 < now["trial_work"] < before["trial_work"] / 20
        assert before["peak"] > now["peak"]


@pytest.mark.parametrize("scheme", [*SCHEMES, "8b/int4", "0.6b/int8", "0.6b/fp16"])
def test_passes_take_what_the_estimate_says(artifacts: Path, scheme: str) -> None:
    """In 2 MiB pages, kernels' trials and keys, values and logits of the pass before included."""
    for tokens, rows, taken, expected in play("passes", artifacts / scheme)[Path(scheme).name]:
        assert 0.8 * taken - 16 * MIB < expected < 1.6 * taken + 256 * MIB, (tokens, rows)


def test_memory_stays_bounded_however_lengths_change(whole: Path, tmp_path: Path) -> None:
    found = play("conversation", whole, STANDIN_LOG=str(tmp_path / "log"))["int4"]
    assert found["launches"] <= 800
    assert found["growing"] < 6.4e9
    assert found["random"] < 6.4e9


def test_full_memory_is_survived(whole: Path, tmp_path: Path) -> None:
    """A pass is tried three times; if it fails for good, the next generation runs."""
    outcomes = play("full_memory", whole, STANDIN_LOG=str(tmp_path / "log"))["int4"]
    for refusals, failed, outcome in outcomes:
        assert failed == min(refusals, 3)
        assert outcome == ("out of memory" if refusals > 2 else "text")


@pytest.mark.parametrize("scheme", ["int4", "int8"])
def test_what_passes_the_memory_check_loads_and_runs(artifacts: Path, scheme: str) -> None:
    outcomes = play("small_cards", artifacts / scheme, STANDIN_GB="4")[scheme]
    assert outcomes == sorted(outcomes), outcomes  # TooLittleMemory up to a size, from there on it runs
    assert set(outcomes) == {"TooLittleMemory", "run"}


def test_threads_share_a_network(artifacts: Path) -> None:
    rows, held = play("threads", artifacts / "int4")["int4"]
    assert rows == [80] * 6
    assert held < 2.4e9


def test_the_benchmark_runs_to_its_end(artifacts: Path) -> None:
    parts = ("dream-edge", "expanded products", "growing")
    done = run_on_standin(
        ROOT / "benchmarks" / "gpu.py",
        *("none", "--artifact", artifacts / "int4", "--tokens", "64", "--repeats", "1", "--new-tokens", "8"),
        *("--parts", *parts),
        environment={"STANDIN_GB": "6", "DREAM_EDGE_SELF_CHECK": "0"},  # results are zeros
    )
    assert done.returncode == 0, done.stderr
    assert "| 64 | dream-edge |" in done.stdout
    assert "tokens were too many, and 1874 ran after that" in done.stdout
    assert not any(f"NOT MEASURED: {part}" in done.stdout for part in parts)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, None),
        ({"sm": 120}, None),
        ({"sm": 61}, "compute capability 6.1"),
        ({"sm": 100}, "compute capability 10.0"),
        ({"STANDIN_DRIVER": "12040"}, "for CUDA 12.4"),
        ({"STANDIN_INIT": "100"}, "cuInit says 100"),
        ({"libraries": "driver"}, "cannot be loaded. Install it"),
        ({"libraries": "none"}, "there is no NVIDIA driver"),
    ],
)
def test_what_a_machine_lacks_is_said_and_nothing_printed(
    artifacts: Path, given: dict[str, Any], said: str | None
) -> None:
    found = play("problem", artifacts / "int4", **given)["int4"]
    assert found is None if said is None else said in found

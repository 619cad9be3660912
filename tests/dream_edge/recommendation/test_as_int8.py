"""What a 4-bit artifact would gain as int8: probed once for a machine, and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dream_edge.cli import options
from dream_edge.models import bundled
from dream_edge.recommendation import as_int8
from dream_edge.recommendation.as_int8 import Gain, find_gain
from dream_edge.recommendation.probe import Network, Speed, write_noise
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.manifest import Manifest
from dream_edge_runtime.format.memory import estimate_memory
from dream_edge_runtime.requantize.artifact import derive_recipe

SECONDS = {"int4": (3.0, 2.0), "int8": (1.5, 1.6)}


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    config = Manifest.read(bundled("tiny_int8")).config
    return write_noise(tmp_path, Network(config=config, scheme="int4", device="cpu"))


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The schemes that were timed, in their order, one of each round slowed down; every network is worth it."""
    schemes: list[str] = []

    def probe(networks: list[Network], **_: object) -> list[Speed]:
        slowed = "int4" if len(schemes) % 4 else "int8"  # by another program
        schemes.extend(each.scheme for each in networks)
        times = {scheme: 3.0 if scheme == slowed else 1.0 for scheme in SECONDS}
        return [
            Speed(network=each, full=times[each.scheme] * full, cached=times[each.scheme] * cached)
            for each in networks
            for full, cached in [SECONDS[each.scheme]]
        ]

    monkeypatch.setattr(as_int8, "probe", probe)
    monkeypatch.setattr(as_int8, "_ROUNDS", 2)
    monkeypatch.setattr(as_int8, "_WORTH", 0)
    monkeypatch.setattr(as_int8, "free_memory", lambda: None)
    return schemes


def test_gain_is_the_ratio_of_what_was_timed_and_kept(artifact: Artifact, probed: list[str], tmp_path: Path) -> None:
    found = find_gain(artifact, tmp_path / "probes")
    assert found is not None
    assert (found.full, found.cached) == (2.0, 1.25)
    assert probed == 2 * ["int4", "int8"]
    assert find_gain(artifact, tmp_path / "probes") == found
    assert probed == 2 * ["int4", "int8"]


@pytest.mark.parametrize("changed", ["threads", "processor", "geometry"])
def test_other_conditions_are_probed_by_themselves(
    artifact: Artifact, probed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    find_gain(artifact, tmp_path / "probes", threads=1)
    if changed == "processor":
        monkeypatch.setattr(as_int8, "describe_machine", lambda: "another, 2 CPUs, Linux, load 0.1")
    if changed == "geometry":
        config = replace(artifact.manifest.config, num_hidden_layers=1)
        artifact = Artifact(artifact.path, replace(artifact.manifest, config=config))
    find_gain(artifact, tmp_path / "probes", threads=2 if changed == "threads" else 1)
    assert len(probed) == 8


def test_load_of_the_machine_is_no_condition(
    artifact: Artifact, probed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for load in ("0.1", "9.9"):
        monkeypatch.setattr(as_int8, "describe_machine", lambda load=load: f"processor, 2 CPUs, Linux, load {load}")
        find_gain(artifact, tmp_path / "probes")
    assert len(probed) == 4


@pytest.mark.parametrize("content", [b"", b"{}", b'{"full":"fast","cached":1.0}'])
def test_damaged_file_is_probed_once_more(
    artifact: Artifact, probed: list[str], tmp_path: Path, content: bytes
) -> None:
    find_gain(artifact, tmp_path / "probes")
    (kept,) = (tmp_path / "probes").iterdir()
    kept.write_bytes(content)
    found = find_gain(artifact, tmp_path / "probes")
    assert found is not None
    assert found.full == 2.0
    assert len(probed) == 8
    find_gain(artifact, tmp_path / "probes")
    assert len(probed) == 8


@pytest.mark.usefixtures("probed")
def test_place_that_cannot_be_written_costs_only_the_probe(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert find_gain(artifact, tmp_path / "file" / "probes") is not None


@pytest.mark.usefixtures("probed")
def test_nothing_to_gain_without_memory_for_the_copy(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = estimate_memory(artifact.manifest.config, derive_recipe(artifact).targets["cpu"], rows=32).total
    monkeypatch.setattr(as_int8, "free_memory", lambda: needed - 1)
    assert find_gain(artifact, tmp_path / "probes") is None
    monkeypatch.setattr(as_int8, "free_memory", lambda: needed)
    assert find_gain(artifact, tmp_path / "probes") is not None


def test_nothing_to_gain_for_int8_and_for_small_networks(artifact: Artifact, tmp_path: Path) -> None:
    assert find_gain(Artifact.open(bundled("tiny_int8")), tmp_path / "probes") is None
    assert find_gain(artifact, tmp_path / "probes") is None
    assert not (tmp_path / "probes").exists()


@pytest.mark.parametrize(("times", "said"), [(1.7, True), (1.1, False)])
def test_command_says_so_where_it_is_much(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: float, said: bool
) -> None:
    gain = Gain(full=times, cached=1.3, memory_bytes=7_700_000_000, disk_bytes=7_600_000_000)
    monkeypatch.setattr(as_int8, "find_gain", lambda *_, **__: gain)
    options.load_model("tiny", options.Loading(device="cpu"))
    expected = "With --as-int8 a pass is 1.7 times as fast here, a cached one 1.3 times, for 7.7 GB of memory and a"
    assert (expected in capsys.readouterr().err) == said

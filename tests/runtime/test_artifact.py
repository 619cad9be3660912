"""Artifacts that somebody damaged or made with bad intent: each is refused with an error that names what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import ArtifactError, CorruptArtifact
from dream_edge_runtime.format.layout import weight_places
from dream_edge_runtime.graph.model import GRAPH_REVISION
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.progress import Progress
from support.artifacts import GRAPH, WEIGHTS, change_bytes, change_manifest, make_artifact, relist
from support.systems import make_link, make_pipe

Tampering = Callable[[Path], object]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("original")).path


@pytest.fixture
def artifact(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "artifact"))


# --- files -----------------------------------------------------------------------------------------------------------


def truncate(name: str) -> Tampering:
    return lambda artifact: change_bytes(artifact / name, lambda data: data.__delitem__(slice(len(data) // 2, None)))


def replace_by_directory(artifact: Path) -> None:
    (artifact / WEIGHTS).unlink()
    (artifact / WEIGHTS).mkdir()


def replace_by_link(artifact: Path) -> None:
    (artifact / WEIGHTS).unlink()
    make_link(artifact / WEIGHTS, "nowhere")


def replace_by_pipe(artifact: Path) -> None:
    (artifact / WEIGHTS).unlink()
    make_pipe(artifact / WEIGHTS)


def swap(artifact: Path) -> None:
    """The graph's name on the tokenizer, and the other way round."""
    graph, tokenizer = artifact / GRAPH, artifact / "tokenizer.json"
    held = graph.read_bytes()
    graph.write_bytes(tokenizer.read_bytes())
    tokenizer.write_bytes(held)


def swap_and_relist(artifact: Path) -> None:
    swap(artifact)
    relist(artifact)


def forget(name: str) -> Tampering:
    """Leave a file out of the manifest."""
    return lambda artifact: change_manifest(
        artifact,
        lambda document: document.update(files=[entry for entry in document["files"] if entry["name"] != name]),
    )


FILES: dict[str, Tampering] = {
    "no_weights": lambda artifact: (artifact / WEIGHTS).unlink(),
    "no_graph": lambda artifact: (artifact / GRAPH).unlink(),
    "no_tokenizer": lambda artifact: (artifact / "tokenizer.json").unlink(),
    "no_manifest": lambda artifact: (artifact / "manifest.json").unlink(),
    "weights_truncated": truncate(WEIGHTS),
    "graph_truncated": truncate(GRAPH),
    "manifest_truncated": truncate("manifest.json"),
    "weights_longer": lambda artifact: change_bytes(artifact / WEIGHTS, lambda data: data.append(0)),
    "dangling_link": replace_by_link,
    "directory_for_a_file": replace_by_directory,
    "files_swapped": swap,
    "files_swapped_and_listed": swap_and_relist,
    "tokenizer_not_listed": forget("tokenizer.json"),
    "weights_not_listed": forget(WEIGHTS),
    "graph_not_listed": forget(GRAPH),
}


@pytest.mark.parametrize("tamper", FILES.values(), ids=FILES)
def test_wrong_files_are_refused(artifact: Path, tamper: Tampering) -> None:
    tamper(artifact)
    with pytest.raises(ArtifactError):
        Artifact.open(artifact).tokenizer()


def test_pipe_for_a_file_is_refused_without_waiting(artifact: Path) -> None:
    replace_by_pipe(artifact)
    with pytest.raises(CorruptArtifact, match="regular file"):
        Artifact.open(artifact)


def test_links_into_a_cache_are_followed(artifact: Path, tmp_path: Path) -> None:
    """Model hubs lay files out as links to blobs."""
    expected = run(artifact)
    (tmp_path / "blobs").mkdir()
    for file in list(artifact.iterdir()):
        blob = tmp_path / "blobs" / file.stem
        file.rename(blob)
        make_link(file, blob)
    Artifact.open(artifact).verify()
    assert (run(artifact) == expected).all()


def test_links_to_several_drives_are_refused(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which Windows has more than one."""

    def refuse(_: object) -> str:
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr("os.path.commonpath", refuse)
    with pytest.raises(CorruptArtifact, match="several drives"):
        run(artifact)


def test_shards_linked_to_different_places_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dream_edge_runtime.format.layout.LARGEST_SHARD", 50_000)
    artifact = make_artifact(tmp_path / "many", "int4").path
    expected, shards = run(artifact), sorted(artifact.glob("weights-*.bin"))
    assert len(shards) > 2
    for index, shard in enumerate(shards[1:]):
        (tmp_path / f"disk {index}" / "夢").mkdir(parents=True)
        elsewhere = tmp_path / f"disk {index}" / "夢" / "blob"
        shard.rename(elsewhere)
        make_link(shard, os.path.relpath(elsewhere, artifact))
    assert (run(artifact) == expected).all()


@pytest.mark.parametrize("name", [WEIGHTS, GRAPH, "tokenizer.json"])
def test_flipped_bit_is_found_by_verifying(artifact: Path, name: str) -> None:
    position = (artifact / name).stat().st_size // 2
    change_bytes(artifact / name, lambda data: data.__setitem__(position, data[position] ^ 1))
    with pytest.raises(CorruptArtifact, match=name):
        Artifact.open(artifact).verify()


def test_file_that_vanishes_before_verifying_is_named(artifact: Path) -> None:
    opened = Artifact.open(artifact)
    (artifact / WEIGHTS).unlink()
    with pytest.raises(CorruptArtifact, match=WEIGHTS):
        opened.verify()


def test_verifying_reports_every_byte(artifact: Path) -> None:
    opened = Artifact.open(artifact)
    seen: list[Progress] = []
    opened.verify(seen.append)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, opened.size, opened.size)


def test_tokenizer_of_another_vocabulary_is_refused(artifact: Path) -> None:
    """Ids beyond the embedding would silently read zeros."""
    document = json.loads((artifact / "tokenizer.json").read_bytes())
    document["model"]["vocab"]["zzz"] = 448
    (artifact / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    relist(artifact)
    with pytest.raises(CorruptArtifact, match="vocabulary"):
        Artifact.open(artifact).tokenizer()


# --- graphs ----------------------------------------------------------------------------------------------------------


def run(artifact: Path) -> FloatArray:
    ids = np.arange(8)[None]
    network = OnnxNetwork(Artifact.open(artifact), threads=1)
    return network.forward(ids, ids, np.ones((1, *ids.shape), np.bool_), ids[0], 0.0).fetch_logits()


def test_graph_in_the_artifact_is_never_executed(artifact: Path) -> None:
    """A stranger's graph, listed with its digest, changes nothing; and verifying finds it."""
    expected = run(artifact)
    (artifact / GRAPH).write_bytes(b"\x00not a graph")
    relist(artifact)
    assert (run(artifact) == expected).all()
    with pytest.raises(CorruptArtifact, match="not the graph"):
        Artifact.open(artifact).verify()


def test_artifact_of_the_first_schema_runs_and_its_graph_is_not_compared(artifact: Path) -> None:
    """Schema 1.0 has no graph revision; its weights lie where they lie today."""

    def to_first(document: dict[str, Any]) -> None:
        document["schema"] = "1.0"
        del document["graph_revision"], document["chat_format"]

    expected = run(artifact)
    (artifact / GRAPH).write_bytes(b"written by another program")
    relist(artifact)
    change_manifest(artifact, to_first)
    assert Artifact.open(artifact).manifest.graph_revision == 0
    assert (run(artifact) == expected).all()
    Artifact.open(artifact).verify()


@pytest.mark.parametrize("scheme", ["int4", "mixed", "nf4", "fp16"])
def test_artifacts_of_schema_1_1_are_still_read(tmp_path: Path, scheme: str) -> None:
    """Their matrices lie one after the other: their graph multiplies each by itself, and computes the same."""
    recent = make_artifact(tmp_path / "recent", scheme)
    older = export(
        Checkpoint.open(tmp_path / "recent" / "checkpoint"),
        tmp_path / "older",
        replace(recent.manifest.recipe, joined=False),
    )
    change_manifest(older.path, lambda document: (document["recipe"].pop("joined"), document.pop("chat_format")))
    change_manifest(older.path, lambda document: document.update(schema="1.1", graph_revision=1))
    older = Artifact.open(older.path)
    older.verify()
    assert not older.manifest.recipe.joined
    assert (run(older.path) == run(recent.path)).all()


def test_graph_of_another_revision_is_not_compared(artifact: Path) -> None:
    (artifact / GRAPH).write_bytes(b"of a newer program")
    relist(artifact)
    change_manifest(artifact, lambda document: document.update(graph_revision=GRAPH_REVISION + 1))
    Artifact.open(artifact).verify()


def test_weights_of_another_size_are_refused_before_they_are_mapped(artifact: Path) -> None:
    os.truncate(artifact / WEIGHTS, (artifact / WEIGHTS).stat().st_size - 64)
    relist(artifact)
    with pytest.raises(CorruptArtifact, match=WEIGHTS):
        Artifact.open(artifact)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["model.norm.weight", "lm_head.scales", "model.layers.1.self_attn.k_proj.bias"])
def test_weights_that_are_not_finite_are_found_by_verifying(artifact: Path, name: str, value: float) -> None:
    manifest = Artifact.open(artifact).manifest
    place = weight_places(manifest.config, manifest.recipe, "cpu")[name]
    last = place.offset + place.size - 4
    change_bytes(artifact / place.shard, lambda data: struct.pack_into("<f", data, last, value))
    relist(artifact)
    with pytest.raises(CorruptArtifact, match=name):
        Artifact.open(artifact).verify()

"""Artifacts of random checkpoints, and ways to tamper with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.recipe import Recipe

from .checkpoints import write_checkpoint

GRAPH = "model_cpu.onnx"
WEIGHTS = "weights-00001.bin"


def make_artifact(directory: Path, scheme: str = "int8", **geometry: Any) -> Artifact:
    """`directory`/artifact, exported from a random checkpoint beside it."""
    config = write_checkpoint(directory / "checkpoint", **geometry)
    recipe = Recipe.for_scheme(scheme, layers=config.num_hidden_layers)
    return export(Checkpoint.open(directory / "checkpoint"), directory / "artifact", recipe)


def change_manifest(artifact: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((artifact / "manifest.json").read_bytes())
    change(document)
    (artifact / "manifest.json").write_bytes(canonical(document))


def canonical(document: object) -> bytes:
    """The one way to write a manifest, written down here a second time."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def relist(artifact: Path) -> None:
    """Make the manifest's sizes and digests those of the files, as somebody who means harm would."""

    def update(document: dict[str, Any]) -> None:
        for entry in document["files"]:
            data = (artifact / entry["name"]).read_bytes()
            entry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())

    change_manifest(artifact, update)


def load_graph(artifact: Path) -> onnx.GraphProto:
    return onnx.load(artifact / GRAPH, load_external_data=False).graph


def change_graph(artifact: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    """Edit the graph and list it anew."""
    model = onnx.load(artifact / GRAPH, load_external_data=False)
    change(model)
    (artifact / GRAPH).write_bytes(model.SerializeToString())
    relist(artifact)


def change_bytes(path: Path, change: Callable[[bytearray], object]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)

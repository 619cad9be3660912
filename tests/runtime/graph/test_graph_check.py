"""Artifacts that somebody damaged or made with bad intent: each is refused with an error that names what is wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import ArtifactError, CorruptArtifact
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.progress import Progress
from support.artifacts import GRAPH, WEIGHTS, change_bytes, change_graph, change_manifest, make_artifact, relist

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
    (artifact / WEIGHTS).symlink_to("nowhere")


def replace_by_pipe(artifact: Path) -> None:
    (artifact / WEIGHTS).unlink()
    os.mkfifo(artifact / WEIGHTS)


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
        Artifact.open(artifact)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_pipe_for_a_file_is_refused_without_waiting(artifact: Path) -> None:
    replace_by_pipe(artifact)
    with pytest.raises(CorruptArtifact, match="regular file"):
        Artifact.open(artifact)


def test_links_into_a_cache_are_followed(artifact: Path, tmp_path: Path) -> None:
    """Model hubs lay files out as links to blobs."""
    (tmp_path / "blobs").mkdir()
    for file in list(artifact.iterdir()):
        blob = tmp_path / "blobs" / file.stem
        file.rename(blob)
        file.symlink_to(blob)
    Artifact.open(artifact).verify()


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


def initializer(model: onnx.ModelProto, name: str) -> TensorProto:
    found: TensorProto = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return found


def external(model: onnx.ModelProto, key: str, value: str, name: str = "lm_head.weight") -> None:
    entry = next(entry for entry in initializer(model, name).external_data if entry.key == key)
    entry.value = value


def first_weights_overlap(model: onnx.ModelProto) -> None:
    external(model, "offset", "0", "model.layers.0.self_attn.q_proj.weight")


def with_function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [], [helper.make_opsetid("", 23)]))


def with_subgraph(model: onnx.ModelProto) -> None:
    empty = helper.make_graph([], "body", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", empty))


def with_large_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("more", TensorProto.FLOAT, [2000], [0.0] * 2000))


def with_duplicate_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(initializer(model, "lm_head.weight"))


def weight_inside_the_file(model: onnx.ModelProto) -> None:
    tensor = initializer(model, "lm_head.scales")
    size = tensor.dims[0]
    tensor.CopyFrom(helper.make_tensor("lm_head.scales", TensorProto.FLOAT, [size], [1.0] * size))


GRAPHS: dict[str, Callable[[onnx.ModelProto], object]] = {
    "foreign_operator": lambda model: setattr(model.graph.node[3], "op_type", "If"),
    "operator_of_another_domain": lambda model: setattr(model.graph.node[3], "domain", "com.evil"),
    "another_operator_set": lambda model: setattr(model.opset_import[0], "version", 12),
    "more_operator_sets": lambda model: model.opset_import.append(helper.make_opsetid("com.evil", 1)),
    "function": with_function,
    "subgraph": with_subgraph,
    "sparse_weight": lambda model: model.graph.sparse_initializer.add(),
    "renamed_input": lambda model: setattr(model.graph.input[0], "name", "ids"),
    "input_of_another_type": lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", 6),
    "fixed_batch": lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1),
    "missing_input": lambda model: model.graph.input.pop(),
    "extra_output": lambda model: model.graph.output.append(model.graph.output[0]),
    "smaller_vocabulary": lambda model: setattr(model.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 9),
    "weight_of_another_type": lambda model: setattr(initializer(model, "lm_head.weight"), "data_type", 2),
    "weight_of_another_shape": lambda model: initializer(model, "lm_head.weight").dims.__setitem__(0, 65),
    "weight_with_negative_shape": lambda model: initializer(model, "lm_head.weight").dims.__setitem__(0, -64),
    "weight_missing": lambda model: model.graph.initializer.remove(initializer(model, "lm_head.weight")),
    "weight_twice": with_duplicate_weight,
    "weight_inside_the_file": weight_inside_the_file,
    "large_constant": with_large_constant,
    "outside_the_artifact": lambda model: external(model, "location", "../secrets.bin"),
    "absolute_location": lambda model: external(model, "location", "/etc/passwd"),
    "memory_address": lambda model: external(model, "location", "*/_ORT_MEM_ADDR_/*"),
    "beyond_the_end": lambda model: external(model, "offset", str(1 << 40)),
    "negative_offset": lambda model: external(model, "offset", "-64"),
    "huge_offset": lambda model: external(model, "offset", "9" * 5000),
    "offset_is_text": lambda model: external(model, "offset", "0x10"),
    "length_of_another_weight": lambda model: external(model, "length", "12"),
    "overlapping_weights": first_weights_overlap,
}


@pytest.mark.parametrize("change", GRAPHS.values(), ids=GRAPHS)
def test_graph_that_is_not_the_configured_one_is_refused(
    artifact: Path, change: Callable[[onnx.ModelProto], object]
) -> None:
    change_graph(artifact, change)
    with pytest.raises(CorruptArtifact, match=r"model_cpu\.onnx"):
        Artifact.open(artifact)


@pytest.mark.parametrize(
    ("field", "value"),
    [("vocab_size", 449), ("num_hidden_layers", 3), ("hidden_size", 128), ("num_key_value_heads", 1)],
)
def test_configuration_of_another_model_is_refused(artifact: Path, field: str, value: int) -> None:
    change_manifest(artifact, lambda document: document["model"].update({field: value}))
    with pytest.raises(CorruptArtifact):
        Artifact.open(artifact)


def test_recipe_of_another_scheme_is_refused(artifact: Path, tmp_path: Path) -> None:
    other = make_artifact(tmp_path / "other", "int4").path
    recipe = json.loads((other / "manifest.json").read_bytes())["recipe"]
    change_manifest(artifact, lambda document: document.update(recipe=recipe))
    with pytest.raises(CorruptArtifact, match="weight"):
        Artifact.open(artifact)


@pytest.mark.parametrize("seed", range(60))
def test_mutated_graph_is_refused_or_runs(artifact: Path, seed: int) -> None:
    """Bytes changed and listed anew: the check or ONNX Runtime refuses them, and only ever with a typed error."""
    rng = random.Random(seed)

    def mutate(data: bytearray) -> None:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)

    change_bytes(artifact / GRAPH, mutate)
    relist(artifact)
    try:
        OnnxNetwork(Artifact.open(artifact), threads=1)
    except ArtifactError:
        return

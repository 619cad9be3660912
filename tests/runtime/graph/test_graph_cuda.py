"""The graph for CUDA, run on the CPU: fp16 products and cache, everything else fp32, weights shared with the CPU's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.quantize.grid import encode_linear
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, matrix_shapes, vector_sizes
from support.arithmetic import dequantized
from support.checkpoints import write_checkpoint
from support.graphs import Graph

SCHEMES = ["fp16", "int8", "int4", "mixed", "nf4"]
GEOMETRY: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 256}


def make(directory: Path, scheme: str, target: str, **geometry: Any) -> tuple[Checkpoint, Artifact]:
    write_checkpoint(directory / "checkpoint", **{**GEOMETRY, **geometry})
    checkpoint = Checkpoint.open(directory / "checkpoint")
    recipe = Recipe.for_scheme(scheme, target=target, layers=checkpoint.config.num_hidden_layers)
    return checkpoint, export(checkpoint, directory / f"{scheme}-{target}", recipe)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_product_is_right_to_fp16(tmp_path: Path, scheme: str) -> None:
    """Fed with what the graph itself had before it: three roundings to fp16 (scale, weight, result), fp32 sums."""
    checkpoint, artifact = make(tmp_path, scheme, "cuda")
    products = {"Gemm", "MatMulNBits", "MatMulBnb4"}
    nodes = [node for node in Graph(artifact, target="cuda").model.graph.node if node.op_type in products]
    values = {name for node in nodes for name in (node.input[0], node.output[0])}
    seen = Graph(artifact, target="cuda", extra=sorted(values)).full_pass(*a_batch(checkpoint))
    formats = artifact.manifest.recipe.targets["cuda"]
    assert {node.input[1].removesuffix(".weight") for node in nodes} == matrix_shapes(checkpoint.config).keys() - {
        EMBEDDING
    }
    for node in nodes:
        name = node.input[1].removesuffix(".weight")
        x, found = seen[node.input[0]], seen[node.output[0]]
        assert x.dtype == found.dtype == np.float16
        weights = formats.of(name)
        matrix = dequantized(encode_linear(checkpoint.tensor(f"{name}.weight"), weights), weights, x.shape[1])
        exact = x.astype(np.float64)
        magnitudes = np.abs(exact) @ np.abs(matrix).T
        assert (np.abs(found - exact @ matrix.T) <= 3 * 2.0**-11 * magnitudes + 2.0**-24).all(), name


@pytest.mark.parametrize("scheme", SCHEMES)
def test_logits_are_those_of_the_quantized_weights(tmp_path: Path, scheme: str) -> None:
    """The reference network with the matrices that the artifact stands for: what is left is fp16 arithmetic."""
    checkpoint, artifact = make(tmp_path, scheme, "cuda")
    formats = artifact.manifest.recipe.targets["cuda"]
    network = load_reference(checkpoint)
    state = network.state_dict()
    for name, (_, inputs) in matrix_shapes(checkpoint.config).items():
        weights, tensor = formats.of(name), checkpoint.tensor(f"{name}.weight")
        state[f"{name}.weight"].copy_(torch.from_numpy(dequantized(encode_linear(tensor, weights), weights, inputs)))
    ids, valid = a_batch(checkpoint)
    expected = network(torch.from_numpy(ids), torch.from_numpy(valid)).numpy().reshape(ids.size, -1)
    found = Graph(artifact, target="cuda").full_pass(ids, valid)["logits"]
    real = valid.reshape(-1)
    assert found.dtype == np.float32
    assert np.abs(found - expected)[real].max() <= 5e-3 * np.abs(expected).max()


def test_a_cached_pass_equals_the_full_one(tmp_path: Path) -> None:
    """Keys and values travel in fp16; the same rows come out as without a cache, to fp16."""
    checkpoint, artifact = make(tmp_path, "int4", "cuda")
    graph = Graph(artifact, target="cuda")
    ids = np.random.default_rng(0).integers(checkpoint.config.vocab_size, size=(1, 24))
    full = graph.full_pass(ids, np.ones_like(ids, bool))
    cached, active = np.arange(0, 24, 2), np.arange(1, 24, 2)
    past = {
        name.replace("present", "past"): value[:, :, cached]
        for name, value in full.items()
        if name.startswith("present")
    }
    assert all(value.dtype == np.float16 for value in past.values())
    part = graph.run(ids[:, active], active[None], np.ones((1, 24), bool), np.arange(12), past=past)
    assert np.abs(part["logits"] - full["logits"][active]).max() <= 5e-3 * np.abs(full["logits"]).max()


def test_large_key_biases_do_not_blur_attention(tmp_path: Path) -> None:
    """Qwen2's key biases reach hundreds, where fp16 resolves 1/8: they are added, and heads rotated, in fp32."""
    checkpoint, artifact = make(tmp_path, "fp16", "cuda")
    model = onnx.load(artifact.path / "model_cuda.onnx", load_external_data=False)
    types = {value.name: value.data_type for value in model.graph.initializer}
    adds = [node for node in model.graph.node if any(name.endswith("k_proj.bias") for name in node.input)]
    assert len(adds) == checkpoint.config.num_hidden_layers
    assert all(types[name] == onnx.TensorProto.FLOAT for node in adds for name in node.input if name in types)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_both_graphs_share_what_they_store_alike(tmp_path: Path, scheme: str) -> None:
    checkpoint, artifact = make(tmp_path, scheme, "all")
    artifact.verify()
    cpu, cuda = (places(artifact.path / f"model_{target}.onnx") for target in ("cpu", "cuda"))
    recipe = artifact.manifest.recipe
    for name in matrix_shapes(checkpoint.config):
        alike = recipe.targets["cpu"].of(name) == recipe.targets["cuda"].of(name)
        assert (cpu[f"{name}.weight"] == cuda[f"{name}.weight"]) == alike, name
    assert all(cpu[name] == cuda[name] for name in vector_sizes(checkpoint.config))
    assert cpu[f"{EMBEDDING}.weight"] == cuda[f"{EMBEDDING}.weight"]
    if scheme != "int8":
        assert cpu[f"{LM_HEAD}.weight"] == cuda[f"{LM_HEAD}.weight"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_graph_of_both_computes_what_it_would_alone(tmp_path: Path, scheme: str) -> None:
    checkpoint, both = make(tmp_path, scheme, "all")
    for target, formats in both.manifest.recipe.targets.items():
        recipe = Recipe(scheme=both.manifest.recipe.scheme, targets={target: formats})
        alone = export(checkpoint, tmp_path / target, recipe)
        first, second = (
            Graph(artifact, target=target).full_pass(*a_batch(checkpoint))["logits"] for artifact in (both, alone)
        )
        assert (first == second).all()


def a_batch(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """Two sequences, the second padded on the left."""
    valid = np.arange(17) >= np.array([[0], [6]])
    return np.random.default_rng(0).integers(checkpoint.config.vocab_size, size=valid.shape), valid


def places(path: Path) -> dict[str, tuple[str, str]]:
    """Where each weight of a graph lies: file and offset."""
    model = onnx.load(path, load_external_data=False)
    external = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in model.graph.initializer
    }
    return {name: (entry["location"], entry.get("offset", "0")) for name, entry in external.items() if entry}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_operator_needs_cudnn(tmp_path: Path, scheme: str) -> None:
    """ONNX Runtime for CUDA comes without cuDNN; of the reductions only ReduceSum and ArgMax do without it too."""
    _, artifact = make(tmp_path, scheme, "cuda")
    operators = {node.op_type for node in Graph(artifact, target="cuda").model.graph.node}
    reductions = {operator for operator in operators if operator.startswith(("Reduce", "Arg"))}
    assert reductions == {"ReduceSum"}
    assert not operators & {"Conv", "Softmax", "LogSoftmax", "Einsum", "BatchNormalization", "Dropout"}

"""The graph for CUDA, run on the CPU: fp16 products and cache, everything else fp32, weights shared with the CPU's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
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
from dream_edge_runtime.format.recipe import TARGETS, Recipe, Target
from dream_edge_runtime.format.tensors import EMBEDDING, matrix_shapes, vector_sizes
from support.arithmetic import dequantized
from support.checkpoints import write_checkpoint, write_weights
from support.graphs import Graph, split_name

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
    matrices = [split_name(node.input[1].removesuffix(".weight")) for node in nodes]
    assert sorted(name for names in matrices for name in names) == sorted(
        matrix_shapes(checkpoint.config).keys() - {EMBEDDING}
    )
    for node, names in zip(nodes, matrices, strict=True):
        x, found = seen[node.input[0]], seen[node.output[0]]
        assert x.dtype == found.dtype == np.float16
        (weights,) = {formats.of(name) for name in names}
        encoded = [encode_linear(checkpoint.tensor(f"{name}.weight"), weights) for name in names]
        matrix = np.concatenate([dequantized(each, weights, x.shape[1]) for each in encoded])
        exact = x.astype(np.float64)
        magnitudes = np.abs(exact) @ np.abs(matrix).T
        assert (np.abs(found - exact @ matrix.T) <= 3 * 2.0**-11 * magnitudes + 2.0**-24).all(), names


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
    part = graph.run(ids[:, active], active[None], np.ones((1, 1, 24), bool), np.arange(12), past=past)
    assert np.abs(part["logits"] - full["logits"][active]).max() <= 5e-3 * np.abs(full["logits"]).max()


def test_large_key_biases_do_not_blur_attention(tmp_path: Path) -> None:
    """Qwen2's key biases reach hundreds, where fp16 resolves 1/8: they are added, and heads rotated, in fp32."""
    checkpoint, artifact = make(tmp_path, "fp16", "cuda")
    model = onnx.load(artifact.path / "model_cuda.onnx", load_external_data=False)
    types = {value.name: value.data_type for value in model.graph.initializer}
    adds = [node for node in model.graph.node if any(name.endswith("k_proj+v_proj.bias") for name in node.input)]
    assert len(adds) == checkpoint.config.num_hidden_layers
    assert all(types[name] == onnx.TensorProto.FLOAT for node in adds for name in node.input if name in types)


def copy_with(checkpoint: Checkpoint, out: Path, weights: Mapping[str, torch.Tensor]) -> Checkpoint:
    """A copy of `checkpoint` with other weights; Windows writes to no file that is open."""
    shutil.copytree(checkpoint.path, out)
    write_weights(out, {name: tensor.clone() for name, tensor in weights.items()})
    return Checkpoint.open(out)


@pytest.mark.parametrize(("target", "count"), [("cpu", 64), ("cuda", 32)])
def test_best_tokens_are_those_of_the_logits_ties_by_id(tmp_path: Path, target: Target, count: int) -> None:
    """With an lm_head whose rows come thrice, so that each logit is there three times."""
    checkpoint, _ = make(tmp_path, "fp16", "cpu")
    weights = load_reference(checkpoint).state_dict()
    rows = weights["lm_head.weight"]
    weights["lm_head.weight"] = rows[torch.arange(len(rows)) % (len(rows) // 3)]
    changed = copy_with(checkpoint, tmp_path / "changed", weights)
    recipe = Recipe.for_scheme("fp16", target=target)
    artifact = export(changed, tmp_path / "ties", recipe)
    found = Graph(artifact, target=target).full_pass(*a_batch(checkpoint))
    assert (found["top_ids"] == np.argsort(-found["logits"], axis=1, kind="stable")[:, :count]).all()


def test_the_stream_is_a_sixteenth(tmp_path: Path) -> None:
    """What is added to it too, and what down_proj reads: where the CPU's graph holds 16 times as much."""
    checkpoint, artifact = make(tmp_path, "fp16", "all")
    ids, valid = a_batch(checkpoint)
    real = valid.reshape(-1)
    seen = {}
    for target in artifact.manifest.graphs:
        nodes = {node.input[1]: node for node in Graph(artifact, target=target).model.graph.node if len(node.input) > 1}
        if target == "cpu":  # whose weights are widened first
            nodes = {name: nodes[cast.output[0]] for name, cast in casts(artifact).items()}
        matrices = ["self_attn.o_proj", "mlp.gate_proj+up_proj", "mlp.down_proj"]
        values = [nodes[f"model.layers.1.{each}.weight"] for each in matrices]
        names = [name for node in values for name in (node.input[0], node.output[0])]
        outputs = Graph(artifact, target=target, extra=names).full_pass(ids, valid)
        seen[target] = [outputs[name].astype(np.float64)[real] for name in names]
    factors = [16, 16, 4, 4, 16, 16]
    for factor, plain, shrunk in zip(factors, seen["cpu"], seen["cuda"], strict=True):
        assert np.abs(factor * shrunk - plain).max() <= 5e-3 * np.abs(plain).max()


def test_products_beyond_fp16_are_computed(tmp_path: Path) -> None:
    """silu(gate) · up and down's product of ten times what fp16 holds: both are a sixteenth in the graph."""
    checkpoint, _ = make(tmp_path, "fp16", "cuda")
    weights = load_reference(checkpoint).state_dict()
    inner = "model.layers.0.mlp"
    loudest = 0.0
    for name, factor in ((f"{inner}.gate_proj", 200.0), (f"{inner}.up_proj", 200.0), (f"{inner}.down_proj", 1.0)):
        weights[f"{name}.weight"] *= factor
    checkpoint = copy_with(checkpoint, tmp_path / "changed", weights)
    network = load_reference(checkpoint)
    ids, valid = a_batch(checkpoint)

    def hear(_module: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal loudest
        loudest = max(loudest, float(inputs[0].abs().max()), float(output.abs().max()))

    network.get_submodule(f"{inner}.down_proj").register_forward_hook(hear)
    expected = network(torch.from_numpy(ids), torch.from_numpy(valid)).detach().numpy().reshape(ids.size, -1)
    assert 65504 < loudest < 16 * 65504
    artifact = export(checkpoint, tmp_path / "loud", Recipe.for_scheme("fp16", target="cuda"))
    nodes = [node for node in Graph(artifact, target="cuda").model.graph.node if f"{inner}." in node.name]
    names = [name for node in nodes for name in node.output if node.op_type in ("Gemm", "QuickGelu", "Mul")]
    # as outputs they are fp16; inside, the CPU's provider computes in fp32
    seen = Graph(artifact, target="cuda", extra=names).full_pass(ids, valid)
    assert all(seen[name].dtype == np.float16 and np.isfinite(seen[name]).all() for name in names)
    real = valid.reshape(-1)
    assert np.abs(seen["logits"] - expected)[real].max() <= 5e-3 * np.abs(expected).max()


def casts(artifact: Artifact) -> dict[str, Any]:
    """The nodes that widen weights in the CPU's graph, by what they widen."""
    nodes = Graph(artifact).model.graph.node
    return {node.input[0]: node for node in nodes if node.op_type == "Cast" and node.input[0].endswith(".weight")}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_multiplied_as_one_is_what_it_is_apart(tmp_path: Path, scheme: str, target: Target) -> None:
    """To the bit on the CPU; on CUDA's graph too, which runs there. So an older artifact computes the same."""
    checkpoint, artifact = make(tmp_path, scheme, target)
    apart = export(checkpoint, tmp_path / "apart", replace(artifact.manifest.recipe, joined=False))
    assert apart.size != artifact.size or scheme == "int8"  # as many weights, another graph
    first, second = (Graph(each, target=target).full_pass(*a_batch(checkpoint)) for each in (artifact, apart))
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_both_graphs_share_what_they_store_alike(tmp_path: Path, scheme: str) -> None:
    checkpoint, artifact = make(tmp_path, scheme, "all")
    artifact.verify()
    cpu, cuda = (places(artifact.path / f"model_{target}.onnx") for target in ("cpu", "cuda"))
    recipe = artifact.manifest.recipe
    for name in matrix_shapes(checkpoint.config):
        alike = recipe.targets["cpu"].of(name) == recipe.targets["cuda"].of(name)
        assert (cpu[f"{name}.weight"] == cuda[f"{name}.weight"]) == alike, name
    norms = {name for name in vector_sizes(checkpoint.config) if not name.endswith("bias")}
    assert all(cpu[name] == cuda[name] for name in norms)
    assert cpu[f"{EMBEDDING}.weight"] == cuda[f"{EMBEDDING}.weight"]


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
    """Where each weight of a graph lies: file and offset; of what is several as one, the place of the first."""
    model = onnx.load(path, load_external_data=False)
    found = {}
    for tensor in model.graph.initializer:
        if entry := {entry.key: entry.value for entry in tensor.external_data}:
            matrix, _, part = tensor.name.rpartition(".")
            for name in split_name(matrix):
                found[f"{name}.{part}"] = entry["location"], entry.get("offset", "0")
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_operator_needs_cudnn(tmp_path: Path, scheme: str) -> None:
    """ONNX Runtime for CUDA comes without cuDNN; of the reductions only ReduceSum and ArgMax do without it too."""
    _, artifact = make(tmp_path, scheme, "cuda")
    operators = {node.op_type for node in Graph(artifact, target="cuda").model.graph.node}
    reductions = {operator for operator in operators if operator.startswith(("Reduce", "Arg"))}
    assert reductions == {"ReduceSum"}
    assert not operators & {"Conv", "Softmax", "LogSoftmax", "Einsum", "BatchNormalization", "Dropout"}

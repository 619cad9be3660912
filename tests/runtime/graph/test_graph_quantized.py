"""The int8 and int4 graphs against oracles that simulate their arithmetic, layer by layer and end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.quantize.grid import encode_embedding, encode_linear
from dream_edge_export.reference.model import load_reference
from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.format.tensors import matrix_shapes
from support.arithmetic import block_bound, block_rounded, dequantized, quantized_rows, rounding_bound
from support.family import FAMILY, FULL_WIDTH, write_family_checkpoint
from support.graphs import Graph, Outputs, split_name
from support.oracle import DoubleArray, oracle_logits

GEOMETRIES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "odd_widths": {
        "hidden_size": 72,
        "intermediate_size": 100,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 12,
    },
    "tied": {"tie_word_embeddings": True},
    "blocks": FAMILY["DreamReasoner-8B"],
    "tied_blocks": FAMILY["bd3lm-Qwen3-0.6B"],
}
RECIPES = {
    "int8": Recipe.for_scheme("int8"),
    "int4": Recipe.for_scheme("int4"),
    "int4-32": Recipe.for_scheme("int4", block_size=32),
}


class Site(NamedTuple):
    """The values around one matrix product of the graph, by name."""

    activations: str
    codes: str | None
    scale: str | None
    product: str


class World(NamedTuple):
    config: ModelConfig
    recipe: Recipe
    matrices: dict[str, DoubleArray]
    vectors: dict[str, NDArray[Any]]
    sites: dict[str, Site]
    """By what the graph multiplies, which may be several matrices as one."""
    ids: IntArray
    valid: BoolArray
    seen: Outputs
    """What the graph computed, all sites included."""


@pytest.fixture(scope="module", params=[(name, geometry) for name in RECIPES for geometry in GEOMETRIES], ids="-".join)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    name, geometry = request.param
    return make(tmp_path_factory.mktemp("graph"), RECIPES[name], GEOMETRIES[geometry])


def make(directory: Path, recipe: Recipe, geometry: dict[str, Any]) -> World:
    checkpoint = write_family_checkpoint(directory / "checkpoint", **geometry)
    config, artifact = checkpoint.config, export(checkpoint, directory / "artifact", recipe)
    sites = product_sites(Graph(artifact))
    values = {value for site in sites.values() for value in site if value is not None}
    graph = Graph(artifact, extra=sorted(values))
    valid = np.arange(17) >= np.array([[0], [6]])
    ids = np.random.default_rng(0).integers(config.vocab_size, size=valid.shape)
    return World(
        config,
        artifact.manifest.recipe,
        {name: stored_matrix(checkpoint, artifact.manifest.recipe, name) for name in matrix_shapes(config)},
        {name: checkpoint.tensor(name).float().numpy() for name in checkpoint.names if checkpoint_vector(name)},
        sites,
        ids,
        valid,
        graph.full_pass(ids, valid),
    )


def checkpoint_vector(name: str) -> bool:
    return name.endswith(("bias", "norm.weight"))


def stored_matrix(checkpoint: Checkpoint, recipe: Recipe, name: str) -> DoubleArray:
    """The matrix [out, in] as its quantized form stands for it."""
    weight, weights = checkpoint.tensor(f"{name}.weight"), recipe.targets["cpu"].of(name)
    if name != "model.embed_tokens" or weights.kind == "row":
        return dequantized(encode_linear(weight, weights), weights, weight.shape[1])
    arrays = encode_embedding(weight, weights)
    width = weight.shape[1]
    blocks = -(-width // weights.block_size)
    padded = np.pad(arrays["weight"], ((0, 0), (0, blocks * weights.block_size - width)))
    return dequantized({**arrays, "weight": padded.reshape(len(padded), blocks, -1)}, weights, width)


def product_sites(graph: Graph) -> dict[str, Site]:
    """Every quantized matrix product by the name of its matrix."""
    nodes = graph.model.graph.node
    maker = {output: node for node in nodes for output in node.output}
    sites = {}
    for node in nodes:
        if node.op_type not in ("MatMulIntegerToFloat", "MatMulNBits"):
            continue
        # a head that is the embedding is turned round first
        turned = node.input[1] in maker
        name = "lm_head" if turned else node.input[1].removesuffix(".weight")
        assert not turned or maker[node.input[1]].input[0] == "model.embed_tokens.weight"
        if node.op_type == "MatMulNBits":
            sites[name] = Site(node.input[0], None, None, node.output[0])
        else:
            quantize = maker[node.input[0]]
            sites[name] = Site(quantize.input[0], node.input[0], quantize.input[1], node.output[0])
    return sites


def test_every_matrix_but_the_embedding_is_quantized(world: World) -> None:
    multiplied = [name for joined in world.sites for name in split_name(joined)]
    assert sorted(multiplied) == sorted(matrix_shapes(world.config).keys() - {"model.embed_tokens"})


def test_each_layer_computes_its_integers_exactly(world: World) -> None:
    """Fed with what the graph itself had before each product, so that no rounding is carried along.

    int8: u8 activations equal; the integer product is exact and one scale follows, so an output is off by at most two
    fp32 roundings. int4: with activations rounded in blocks as MLAS does, nothing but an fp32 sum is left.
    """
    for joined, site in world.sites.items():
        x, found, (name, *_) = world.seen[site.activations], world.seen[site.product], split_name(joined)
        matrix = np.concatenate([world.matrices[each] for each in split_name(joined)])
        if site.codes is not None and site.scale is not None:
            codes, scale = quantized_rows(x)
            assert (world.seen[site.codes] == codes).all(), name
            assert (world.seen[site.scale] == scale[:, 0]).all(), name
            expected = (codes.astype(np.float64) - 128) @ matrix.T
            assert (np.abs(found - expected) <= 2 * 2.0**-24 * np.abs(expected)).all(), name
        else:
            weights = world.recipe.targets["cpu"].of(name)
            rounded = block_rounded(x, weights.block_size)
            expected = rounded @ matrix.T
            spread = 2 * np.abs(matrix).max(axis=1, keepdims=True)  # zero points are subtracted from whole sums
            allowed = rounding_bound(rounded, np.abs(matrix) + spread)
            assert (np.abs(found - expected) <= allowed).all(), name
            exact = x.astype(np.float64) @ matrix.T
            bound = block_bound(x, matrix, weights.block_size) + allowed
            assert (np.abs(found - exact) <= bound).all(), name


def test_logits_equal_an_oracle_that_rounds_alike(world: World) -> None:
    """End to end to 1e-5 of the logits' scale, with the oracle's own fp64 arithmetic between the products.

    Activations that lie within the fp32 error of a rounding boundary may fall on either side of it. There, and only
    there, the oracle takes the graph's side: at most 1e-3 of a step from the boundary (the layers between two products
    are good to about 1e-5 of a row's largest value; 127 steps make it up), and one code away.
    """
    undecided = total = 0

    def product(name: str, x: DoubleArray) -> DoubleArray:
        nonlocal undecided, total
        site = next(site for joined, site in world.sites.items() if name in split_name(joined))
        weights = world.recipe.targets["cpu"].of(name)
        seen = world.seen[site.activations]
        assert np.abs(x - seen).max() <= 1e-5 * np.abs(x).max(), name
        if site.codes is not None:
            step = np.abs(x).max(axis=1, keepdims=True) / 127
            taken = world.seen[site.codes].astype(np.float64) - 128
        else:
            step = block_steps(x, weights.block_size)
            taken = np.rint(block_rounded(seen, weights.block_size) / block_steps(seen, weights.block_size))
        # the code taken is the nearest, or the distance to it is half a step but for the fp32 error
        assert (np.abs(x / step - taken) <= 0.5 + 1e-3).all(), name
        undecided += int((np.rint(x / step) != taken).sum())
        total += x.size
        return np.asarray((taken * step) @ world.matrices[name].T)

    logits = oracle_logits(
        world.config, world.matrices["model.embed_tokens"], world.vectors, product, world.ids, world.valid
    )
    real = world.valid.reshape(-1)
    found = world.seen["logits"]
    assert np.abs(found - logits)[real].max() <= 1e-5 * np.abs(logits).max()
    assert undecided <= total / 1000


def block_steps(x: FloatArray | DoubleArray, block_size: int) -> DoubleArray:
    """The step of each activation: the largest magnitude of its block / 127, 1 in a block of zeros."""
    parts = np.split(np.abs(x).astype(np.float64), range(block_size, x.shape[1], block_size), axis=1)
    largest = [np.broadcast_to(part.max(axis=1, keepdims=True), part.shape) for part in parts]
    steps = np.concatenate(largest, axis=1) / 127
    return np.where(steps == 0, 1.0, steps)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_oracle_itself_equals_the_reference(tmp_path: Path, geometry: str) -> None:
    """With the checkpoint's own weights and plain products, so that what it is used for above means something."""
    checkpoint = write_family_checkpoint(tmp_path, **GEOMETRIES[geometry])
    config, network = checkpoint.config, load_reference(checkpoint).double()
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    valid = np.arange(9) >= np.array([[0], [4]])
    ids = np.random.default_rng(1).integers(config.vocab_size, size=valid.shape)
    found = oracle_logits(
        config,
        weights["model.embed_tokens.weight"],
        weights,
        lambda name, x: x @ weights[f"{name}.weight"].T,
        ids,
        valid,
    )
    expected = network(torch.from_numpy(ids), torch.from_numpy(valid)).numpy().reshape(found.shape)
    assert np.abs(found - expected)[valid.reshape(-1)].max() <= 1e-5 * np.abs(expected).max()


MOST = {"fp16": 0.005, "int8": 0.06, "nf4": 0.4, "int4": 0.5, "mixed": 0.5}
WIDTHS = {"narrow": {}, **FULL_WIDTH}


@pytest.mark.parametrize("scheme", MOST)
@pytest.mark.parametrize("width", WIDTHS)
def test_quantized_logits_stay_near_the_reference(tmp_path: Path, width: str, scheme: str) -> None:
    """A coarse net under the exact tests: no oracle shares a mistake with the plain fp32 network."""
    checkpoint = write_family_checkpoint(tmp_path / "checkpoint", **WIDTHS[width])
    artifact = export(checkpoint, tmp_path / "artifact", Recipe.for_scheme(scheme, layers=2))
    ids = np.random.default_rng(2).integers(checkpoint.config.vocab_size, size=(1, 40))
    found = Graph(artifact).full_pass(ids, np.ones_like(ids, bool))["logits"]
    expected = load_reference(checkpoint)(torch.from_numpy(ids))[0].numpy()
    assert np.sqrt(((found - expected) ** 2).mean()) <= MOST[scheme] * expected.std()

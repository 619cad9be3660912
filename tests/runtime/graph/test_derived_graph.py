"""The derived graph: what an exporter writes and a runtime runs, held to the onnx package and to the layout."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from dream_edge.models import bundled
from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.layout import TensorSpec, plan_layout, product_places, weight_places
from dream_edge_runtime.format.manifest import Manifest
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import SCHEMES, TARGETS, Recipe, Scheme, Target
from dream_edge_runtime.graph.layers import rotary_frequencies
from dream_edge_runtime.graph.model import GRAPH_REVISION, derive_graph
from dream_edge_runtime.graph.onnx_writer import write_onnx
from dream_edge_runtime.graph.op import Op
from dream_edge_runtime.graph.signature import input_specs, output_specs
from support.checkpoints import write_checkpoint
from support.family import FAMILY, write_family_checkpoint
from support.networks import small_config, tiny_vocabulary

PAIRS = [("fp32", "cpu"), *((scheme, target) for scheme in SCHEMES[1:] for target in (*TARGETS, "all"))]
TYPES = {1: "float32", 2: "uint8", 3: "int8", 7: "int64", 9: "bool", 10: "float16"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(path, hidden_size=128)
    return Checkpoint.open(path)


@pytest.fixture(scope="module")
def of_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return write_family_checkpoint(tmp_path_factory.mktemp("qwen3"), **FAMILY["bd3lm-Qwen3-0.6B"])


MADE = [*(("checkpoint", *pair) for pair in PAIRS), *(("of_qwen3", *pair) for pair in PAIRS if pair[1] != "cuda")]


@pytest.fixture(scope="module", params=MADE, ids="-".join)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    fixture, scheme, target = request.param
    checkpoint = request.getfixturevalue(fixture)
    recipe = Recipe.for_scheme(scheme, target=target, layers=checkpoint.config.num_hidden_layers)
    return export(checkpoint, tmp_path_factory.mktemp(scheme) / "artifact", recipe)


def test_exported_graph_is_the_derived_one(exported: Artifact) -> None:
    manifest = exported.manifest
    assert manifest.graph_revision == GRAPH_REVISION
    for target, name in manifest.graphs.items():
        assert (exported.path / name).read_bytes() == derive_graph(manifest.config, manifest.recipe, target)
    exported.verify()


def test_onnx_finds_the_graph_well_formed(exported: Artifact) -> None:
    """Its checker opens the weights; its inference agrees with the declared types and shapes."""
    for name in exported.manifest.graphs.values():
        onnx.checker.check_model(str(exported.path / name))
        model = onnx.load(exported.path / name, load_external_data=False)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=False)
        assert {each.domain: each.version for each in model.opset_import} == {"": 23, "com.microsoft": 1}


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_outputs_and_weights_are_those_promised(exported: Artifact, target: Target) -> None:
    config, recipe = exported.manifest.config, exported.manifest.recipe
    if target not in recipe.targets:
        return
    graph = onnx.load(exported.path / exported.manifest.graphs[target], load_external_data=False).graph
    assert [spec_of(port) for port in graph.input] == input_specs(config, target)
    assert [spec_of(port) for port in graph.output] == output_specs(config, target)
    outside = {each.name: each for each in graph.initializer if each.external_data}
    places = product_places(config, recipe, target)
    for name in [name for name in places if config.tie_word_embeddings and name.startswith("lm_head.")]:
        embedding = places[name.replace("lm_head", "model.embed_tokens")]
        if places[name].spec.shape == embedding.spec.shape:  # two readings of one tensor
            del places[name]
    assert outside.keys() == places.keys()
    for name, place in places.items():
        where = {each.key: each.value for each in outside[name].external_data}
        assert where == {"location": place.shard, "offset": str(place.offset), "length": str(place.size)}
        assert (TYPES[outside[name].data_type], tuple(outside[name].dims)) == (place.spec.dtype, place.spec.shape)
    read = {name for node in graph.node for name in node.input}
    assert {each.name for each in graph.initializer} <= read


def test_nodes_are_named_after_the_blocks_of_the_model(exported: Artifact) -> None:
    for file in exported.manifest.graphs.values():
        names = [node.name for node in onnx.load(exported.path / file, load_external_data=False).graph.node]
        assert len(set(names)) == len(names)
        assert any(name.startswith("model.layers.1.mlp.down_proj/") for name in names)


def spec_of(port: onnx.ValueInfoProto) -> TensorSpec:
    tensor = port.type.tensor_type
    lengths = (each.dim_param or each.dim_value for each in tensor.shape.dim)
    return TensorSpec(port.name, TYPES[tensor.elem_type], tuple(lengths))


# --- revision --------------------------------------------------------------------------------------------------------

GOLDEN: dict[tuple[Scheme, str], str] = {
    ("fp32", "cpu"): "2a7cb5370953139d",
    ("fp16", "cpu"): "45b99b49efe44474",
    ("fp16", "cuda"): "1304b5ddc564a7d9",
    ("fp16", "all"): "5cdee57a16efcf07",
    ("int8", "cpu"): "9ac0f2c5cdc2fd33",
    ("int8", "cuda"): "78f011ca606a7adc",
    ("int8", "all"): "2545f7ee799b5690",
    ("int4", "cpu"): "e73ed2c95228b69b",
    ("int4", "cuda"): "0140482701c0ce52",
    ("int4", "all"): "c3cb964b97a92e3f",
    ("mixed", "cpu"): "16d2197259fafda5",
    ("mixed", "cuda"): "4114fdad51d20742",
    ("mixed", "all"): "c3456f22c1d31b19",
    ("nf4", "cpu"): "57b775246bd28ef4",
    ("nf4", "cuda"): "9e7a53429482a48e",
    ("nf4", "all"): "945dc7ac97fe53f4",
}


GOLDEN_OF_QWEN3: dict[tuple[Scheme, str], str] = {
    ("fp32", "cpu"): "69d3e2f0d60fd723",
    ("fp16", "cuda"): "2b76e96776fb55d1",
    ("int8", "cpu"): "b6451a7c67854676",
    ("int8", "cuda"): "d12aeae2111423fc",
    ("int4", "cpu"): "4e53b88c05be41fc",
    ("int4", "cuda"): "b02e0732666504d0",
    ("mixed", "all"): "eb8c9a19cf310069",
}


@pytest.mark.parametrize(("scheme", "target"), GOLDEN_OF_QWEN3)
def test_other_bytes_of_qwen3s_form_are_another_revision(scheme: Scheme, target: str) -> None:
    """Norms of heads, no biases, wide queries, a tied head."""
    config = small_config(**FAMILY["bd3lm-Qwen3-0.6B"])
    recipe = Recipe.for_scheme(scheme, target=target, layers=config.num_hidden_layers).fit(config)
    digest = hashlib.sha256(b"".join(derive_graph(config, recipe, each) for each in recipe.targets)).hexdigest()
    assert (GRAPH_REVISION, digest[:16]) == (4, GOLDEN_OF_QWEN3[scheme, target])


@pytest.mark.parametrize(("scheme", "target"), GOLDEN)
def test_other_bytes_are_another_revision(scheme: Scheme, target: str) -> None:
    """A change of the graph's bytes raises GRAPH_REVISION and brings new digests, here and in the bundled artifact."""
    config = Manifest.read(bundled("tiny_int8")).config
    recipe = Recipe.for_scheme(scheme, target=target, layers=config.num_hidden_layers)
    digest = hashlib.sha256(b"".join(derive_graph(config, recipe, each) for each in recipe.targets)).hexdigest()
    assert (GRAPH_REVISION, digest[:16]) == (4, GOLDEN[scheme, target])


@pytest.mark.parametrize("theta", [10000.0, 1_000_000.0, 500.0])
@pytest.mark.parametrize("head_dim", [16, 128])
def test_rotary_frequencies_are_powers_to_the_last_bit(checkpoint: Checkpoint, theta: float, head_dim: int) -> None:
    config = replace(checkpoint.config, rope_theta=theta, head_dim=head_dim)
    expected = np.longdouble(theta) ** (-2 * np.arange(head_dim // 2, dtype=np.longdouble) / head_dim)
    assert (rotary_frequencies(config) == expected.astype(np.float64).astype(np.float32)).all()


def test_two_targets_share_what_they_store_alike(checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    recipe = Recipe.for_scheme("int4", target="all")
    cpu, cuda = (weight_places(config, recipe, target) for target in TARGETS)
    shared = {name for name, place in cpu.items() if cuda.get(name) == place}
    assert {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.bias", "model.norm.weight"} <= shared
    assert "model.layers.0.mlp.up_proj.weight" not in shared
    assert set(cpu.values()) | set(cuda.values()) == set(plan_layout(config, recipe).places)


def test_graph_of_a_7b_is_derived_in_a_moment() -> None:
    """28 layers, as `load` does each time; a load takes seconds."""
    small = Recipe.for_scheme("int8")
    assert len(derive_graph(seven_billion(), small, "cpu")) < 500_000


def seven_billion() -> ModelConfig:
    return replace(
        tiny_vocabulary(),
        num_hidden_layers=28,
        hidden_size=3584,
        intermediate_size=18944,
        num_attention_heads=28,
        num_key_value_heads=4,
        vocab_size=152064,
    )


# --- the recorder and the writer -------------------------------------------------------------------------------------


def test_recorded_operators_compute_what_onnx_reference_does() -> None:
    """Every kind of constant and attribute, read and evaluated by the onnx package."""
    op = Op([TensorSpec("x", "float32", ("rows", 4))])
    x = op.input("x")
    with op.block("head"):
        best, ids = op.TopK(op.Mul(x, -2.5), 2)
    op.outputs = {
        "best": best,
        "ids": ids,
        "columns": op.Transpose(op.Reshape(op.Cast(x, "float16"), [2, -1]), perm=[1, 0]),
    }
    specs = [
        TensorSpec("best", "float32", ("rows", 2)),
        TensorSpec("ids", "int64", ("rows", 2)),
        TensorSpec("columns", "float16", ("columns", 2)),
    ]
    model = onnx.load_from_string(write_onnx(op, specs, name="test"))
    onnx.checker.check_model(model, full_check=True)
    values = np.array([[1, 2, 3, 4], [4, 3, -2, 1]], np.float32)
    found: Any = ReferenceEvaluator(model).run(None, {"x": values})
    assert (found[0] == [[-2.5, -5], [5, -2.5]]).all()
    assert (found[1] == [[0, 1], [2, 3]]).all()
    assert (found[2] == values.astype(np.float16).reshape(2, -1).T).all()
    assert model.graph.node[0].name == "head/Mul_0"


def test_equal_constants_are_one_and_named_ones_are_kept_apart() -> None:
    op = Op([])
    ones = op.constant(np.ones(1, np.float32))
    assert op.constant(np.ones(1, np.float32)) == ones
    assert op.constant(np.ones(1, np.int64)) != ones
    assert op.constant(np.ones(1, np.float32), "levels").name == "levels"


def test_no_attribute_but_operators_is_made_up() -> None:
    with pytest.raises(AttributeError):
        Op([]).shape  # noqa: B018

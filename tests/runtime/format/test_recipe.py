"""Recipes: what the schemes store, how large the 7B becomes, what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from dream_edge_runtime.errors import InvalidOption
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import FLOAT, ROW, SCHEMES, TABLE, Recipe, WeightFormat
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, matrix_shapes, parameter_count

DREAM_7B = ModelConfig(
    vocab_size=152064,
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    head_dim=128,
    max_position_embeddings=131072,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    tie_word_embeddings=False,
    attention_bias=True,
    qk_norm=False,
    causal_block=None,
    mask_token_id=151666,
    pad_token_id=151643,
    bos_token_id=151643,
    eos_token_id=151643,
    expand_token_id=None,
    context=2048,
    shift=1,
)


def for_7b(scheme: str, target: str = "cpu", **options: Any) -> Recipe:
    return Recipe.for_scheme(scheme, target=target, layers=28, **options)


def test_the_7b_has_the_parameters_it_is_known_for() -> None:
    assert parameter_count(DREAM_7B) == 7_615_616_512


@pytest.mark.parametrize(
    ("scheme", "target", "most"),
    [
        ("int4", "cpu", 4.7),
        ("int4", "cuda", 5.0),
        ("mixed", "cpu", 5.6),
        ("mixed", "cuda", 5.6),
        ("nf4", "cpu", 5.0),
        ("nf4", "cuda", 5.0),
        ("nf4", "all", 5.4),
        ("int8", "cpu", 7.9),
        ("int8", "cuda", 8.2),
        ("fp16", "cpu", 15.3),
        ("fp16", "all", 15.3),
    ],
)
def test_size_of_the_7b(scheme: str, target: str, most: float) -> None:
    """Gigabytes of 10^9 bytes, embedding and lm_head included."""
    assert for_7b(scheme, target).stored_bytes(DREAM_7B) <= most * 1e9


@pytest.mark.parametrize(
    ("scheme", "target"),
    [("fp32", "cpu"), *((scheme, target) for scheme in SCHEMES[1:] for target in ("cpu", "cuda", "all"))],
)
def test_a_recipe_survives_the_manifest(scheme: str, target: str) -> None:
    recipe = for_7b(scheme, target)
    assert Recipe.from_dict(json.loads(json.dumps(asdict(recipe)))) == recipe
    recipe.check(DREAM_7B)


def test_mixed_keeps_sensitive_matrices_of_half_the_layers_in_8_bits() -> None:
    overrides = for_7b("mixed").targets["cpu"].overrides
    layers = sorted({int(name.split(".")[2]) for name in overrides})
    assert layers == [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27]
    assert {name.split(".", 3)[3] for name in overrides} == {"self_attn.v_proj", "mlp.down_proj"}
    assert len(overrides) == 28
    assert all(weights.bits == 8 for weights in overrides.values())


def test_formats_of_the_targets_of_int4() -> None:
    recipe = for_7b("int4", "all")
    cpu, cuda = recipe.targets["cpu"], recipe.targets["cuda"]
    assert cpu.body == WeightFormat(kind="block", bits=4, block_size=128, symmetric=False)
    assert cuda.body == WeightFormat(kind="block", bits=4, block_size=32, symmetric=True)
    assert cpu.embedding == cuda.embedding


@pytest.mark.parametrize("scheme", ["int8", "int4", "mixed", "nf4"])
def test_lm_head_is_in_each_targets_fast_8_bits(scheme: str) -> None:
    """By row, as integers, on the CPU; in groups that CUDA need not expand there; each of both as it is alone."""
    both = for_7b(scheme, "all").targets
    assert both["cpu"].lm_head == for_7b(scheme, "cpu").targets["cpu"].lm_head == ROW
    on_cuda = WeightFormat(kind="block", bits=8, block_size=32)
    assert both["cuda"].lm_head == for_7b(scheme, "cuda").targets["cuda"].lm_head == on_cuda


def test_what_two_graphs_store_alike_is_stored_once() -> None:
    both = for_7b("int4", "all", block_size=32, symmetric=True)
    head = ROW.stored_bytes(*matrix_shapes(DREAM_7B)[LM_HEAD])
    assert both.stored_bytes(DREAM_7B) == for_7b("int4", "cuda").stored_bytes(DREAM_7B) + head
    stored = [name for names, _ in both.stored_matrices(DREAM_7B) for name in names]
    assert stored == [*matrix_shapes(DREAM_7B), LM_HEAD]
    apart = [name for names, _ in for_7b("int4", "all").stored_matrices(DREAM_7B) for name in names]
    assert apart.count(EMBEDDING) == 1
    assert apart.count("model.layers.0.mlp.up_proj") == 2


@pytest.mark.parametrize(
    ("scheme", "options", "named"),
    [
        ("int2", {}, "scheme"),
        ("int4", {"target": "tpu"}, "target"),
        ("fp32", {"target": "cuda"}, "fp16"),
        ("fp32", {"target": "all"}, "fp16"),
        ("int8", {"block_size": 32}, "block_size"),
        ("fp16", {"block_size": 32}, "block_size"),
        ("int4", {"block_size": 48}, "block_size"),
        ("int4", {"block_size": 0}, "block_size"),
        ("nf4", {"symmetric": True}, "symmetric"),
        ("int8", {"symmetric": False}, "symmetric"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(scheme: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidOption, match=named):
        Recipe.for_scheme(scheme, layers=28, **options)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "nf4", "bits": 8, "block_size": 64},
        {"kind": "nf4", "bits": 4},
        {"kind": "nf4", "bits": 4, "block_size": 64, "symmetric": False},
        {"kind": "float", "bits": 8},
        {"kind": "row", "bits": 4},
        {"kind": "row", "bits": 8, "block_size": 32},
        {"kind": "block", "bits": 5, "block_size": 32},
        {"kind": "block", "bits": 4, "block_size": 33},
        {"kind": "ternary", "bits": 2},
    ],
)
def test_formats_that_no_operator_has_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        WeightFormat(**fields)


def test_cuda_takes_an_embedding_only_in_whole_groups() -> None:
    """ONNX Runtime's kernel counts groups through the whole table: with others it reads wrong scales."""
    narrow = replace(DREAM_7B, hidden_size=28 * 36)
    for target in ("cuda", "all"):
        with pytest.raises(InvalidOption, match=r"width is 1008: use fp16, or --target cpu"):
            for_7b("int4", target).check(narrow)
        for_7b("fp16", target).check(narrow)
    for_7b("int4", "cpu").check(narrow)


def test_a_tied_head_is_stored_as_its_own_format_would_be_in_rows_that_can_be_looked_up() -> None:
    tied = replace(DREAM_7B, tie_word_embeddings=True)
    assert for_7b("int8").fit(DREAM_7B) == for_7b("int8")
    for scheme in ("int8", "int4", "mixed", "nf4"):
        found = for_7b(scheme, "all").fit(tied).targets
        assert found["cpu"].embedding == found["cpu"].lm_head == TABLE
        assert found["cuda"].embedding == found["cuda"].lm_head == for_7b(scheme, "cuda").targets["cuda"].lm_head
        assert found["cpu"].body == for_7b(scheme).targets["cpu"].body
    with pytest.raises(InvalidOption, match="lm_head"):
        for_7b("int8").check(tied)
    narrow = WeightFormat(kind="block", bits=8, block_size=256)
    formats = replace(for_7b("int4").targets["cpu"], embedding=narrow, lm_head=narrow)
    with pytest.raises(InvalidOption, match="whose width is 3456"):
        Recipe(scheme="int4", targets={"cpu": formats}).check(replace(tied, hidden_size=3456))


def test_neighbours_of_one_format_are_multiplied_as_one() -> None:
    group = [f"model.layers.0.self_attn.{each}" for each in ("q_proj", "k_proj", "v_proj")]
    query, key, value = group
    assert for_7b("int4").targets["cpu"].products(group, joined=True) == [(query, key, value)]
    assert for_7b("mixed").targets["cpu"].products(group, joined=True) == [(query, key), (value,)]
    for formats, joined in ((for_7b("int8").targets["cpu"], True), (for_7b("int4").targets["cpu"], False)):
        assert formats.products(group, joined) == [(query,), (key,), (value,)]


def test_a_recipe_must_fit_the_network() -> None:
    recipe = for_7b("mixed")
    with pytest.raises(InvalidOption, match=r"model\.layers\.4\.self_attn\.v_proj|model\.layers\.5"):
        recipe.check(replace(DREAM_7B, num_hidden_layers=4))
    with pytest.raises(InvalidOption, match="block_size"):
        for_7b("nf4").check(replace(DREAM_7B, intermediate_size=1000))


def test_integer_rows_are_for_the_cpu_only() -> None:
    formats = for_7b("int8").targets["cpu"]
    with pytest.raises(InvalidOption, match="CPU only"):
        Recipe(scheme="int8", targets={"cuda": formats})


@pytest.mark.parametrize("embedding", [ROW, WeightFormat(kind="block", bits=4, block_size=32)])
def test_embeddings_are_floats_or_8_bit_groups(embedding: WeightFormat) -> None:
    with pytest.raises(InvalidOption, match="embedding"):
        replace(for_7b("int4").targets["cpu"], embedding=embedding)


def test_bits_per_weight_counts_scales_and_zero_points() -> None:
    """4 bits, 16 of scale and 4 of zero point for 128 weights; embedding 8 and 16 / 128, lm_head 8 and 32 a row."""
    body, embedding, lm_head = 4 + 20 / 128, 8 + 16 / 128, 8 + 32 / 3584
    share = 152064 * 3584 / parameter_count(DREAM_7B)
    expected = body * (1 - 2 * share) + (embedding + lm_head) * share
    assert for_7b("int4").targets["cpu"].bits_per_weight(DREAM_7B) == pytest.approx(expected, rel=1e-3)
    assert replace(for_7b("fp32").targets["cpu"], body=FLOAT).bits_per_weight(DREAM_7B) == 32

"""Where weights lie: what a graph multiplies as one matrix is the bytes of its members, whatever their formats."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_runtime.format.layout import ALIGNMENT, Place, plan_layout, product_places, tensor_bytes, weight_places
from dream_edge_runtime.format.recipe import HALF, ROW, SCHEMES, TARGETS, Formats, Recipe, WeightFormat
from dream_edge_runtime.format.tensors import matrix_shapes
from support.checkpoints import write_checkpoint
from support.graphs import Graph, split_name
from support.networks import small_config

CONFIG = small_config(hidden_size=128, intermediate_size=192, num_hidden_layers=2)
MATRICES = [name for name in matrix_shapes(CONFIG) if name.startswith("model.layers.")]
INT4 = WeightFormat(kind="block", bits=4, block_size=32)
WITH_ZEROS = replace(INT4, symmetric=False)
NF4 = WeightFormat(kind="nf4", bits=4, block_size=64)
EMBEDDING = WeightFormat(kind="block", bits=8, block_size=128)


def formats(*choices: WeightFormat) -> st.SearchStrategy[Formats]:
    one = st.sampled_from(choices)
    overrides = st.dictionaries(st.sampled_from(MATRICES), one)
    return st.builds(Formats, body=one, embedding=st.just(EMBEDDING), lm_head=one, overrides=overrides)


RECIPES = st.builds(
    Recipe,
    scheme=st.just("mixed"),
    targets=st.fixed_dictionaries(
        {"cpu": formats(INT4, WITH_ZEROS, ROW, HALF), "cuda": formats(INT4, WITH_ZEROS, NF4, HALF)}
    ),
    joined=st.booleans(),
)


@pytest.mark.parametrize("target", ["cpu", "cuda", "all"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_tied_head_is_the_bytes_of_the_embedding(scheme: str, target: str) -> None:
    """For each target: lm_head has no place of its own, and the artifact has its size less."""
    if scheme == "fp32" and target != "cpu":
        return
    tied = replace(CONFIG, tie_word_embeddings=True)
    recipe = Recipe.for_scheme(scheme, target=target, layers=2).fit(tied)
    recipe.check(tied)
    head = {
        each.lm_head: each.lm_head.stored_bytes(tied.vocab_size, tied.hidden_size) for each in recipe.targets.values()
    }
    assert recipe.stored_bytes(CONFIG) - recipe.stored_bytes(tied) == sum(head.values())
    assert not any(place.spec.name.startswith("lm_head") for place in plan_layout(tied, recipe).places)
    for each in recipe.targets:
        places = weight_places(tied, recipe, each)
        found = {name.removeprefix("lm_head."): place for name, place in places.items() if name.startswith("lm_head")}
        assert found
        for part, place in found.items():
            assert place[1:] == places[f"model.embed_tokens.{part}"][1:]
            assert tensor_bytes(place.spec) == place.size


@given(recipe=RECIPES)
def test_products_are_the_bytes_of_their_matrices(recipe: Recipe) -> None:
    for target in TARGETS:
        apart, products = (places(CONFIG, recipe, target) for places in (weight_places, product_places))
        found = [f"{name}.{part}" for joined, _, part in map(partition, products) for name in split_name(joined)]
        assert sorted(found) == sorted(apart)
        for joined, place in products.items():
            matrix, _, part = partition(joined)
            members = [apart[f"{name}.{part}"] for name in split_name(matrix)]
            assert (place.shard, place.offset) == (members[0].shard, members[0].offset)
            assert all(end(one) == (other.shard, other.offset) for one, other in pairwise(members))
            assert end(place) == end(members[-1])
            assert place.spec.shape[0] == sum(int(member.spec.shape[0]) for member in members)
            assert {place.spec.shape[1:]} == {member.spec.shape[1:] for member in members}
            formats_ = {recipe.targets[target].of(name) for name in split_name(matrix)}
            assert len(members) == 1 or part == "bias" or (recipe.joined and len(formats_) == 1 and ROW not in formats_)


@given(recipe=RECIPES)
def test_tensors_lie_one_after_the_other_and_are_all_read(recipe: Recipe) -> None:
    places = plan_layout(CONFIG, recipe).places
    for one, other in pairwise(places):
        gap = other.offset - (one.offset + one.size)
        assert other.offset == 0 if one.shard != other.shard else 0 <= gap < ALIGNMENT
    read = {place for target in TARGETS for place in weight_places(CONFIG, recipe, target).values()}
    assert read == set(places)


@pytest.mark.parametrize("apart", ["q_proj", "k_proj", "v_proj"])
def test_a_matrix_in_a_format_of_its_own_leaves_the_others_joined(tmp_path: Path, apart: str) -> None:
    """Also where the other graph reads it beside them, and widths are no multiple of the alignment."""
    checkpoint = Checkpoint.open(odd_checkpoint(tmp_path / "checkpoint"))
    plain = Formats(body=replace(WITH_ZEROS, block_size=16), embedding=HALF, lm_head=HALF)
    own = replace(plain, overrides={f"model.layers.0.self_attn.{apart}": replace(plain.body, bits=8)})
    ids = np.random.default_rng(0).integers(checkpoint.config.vocab_size, size=(1, 20))
    logits = []
    for joined in (True, False):
        recipe = Recipe(scheme="mixed", targets={"cpu": plain, "cuda": own}, joined=joined)
        artifact = export(checkpoint, tmp_path / str(joined), recipe)
        passes = [Graph(artifact, target=target).full_pass(ids, ids >= 0) for target in TARGETS]
        logits.append([each["logits"] for each in passes])
    assert all((one == other).all() for one, other in zip(*logits, strict=True))


def odd_checkpoint(directory: Path) -> Path:
    write_checkpoint(directory, hidden_size=72, intermediate_size=100, num_attention_heads=6, num_key_value_heads=3)
    return directory


def partition(name: str) -> tuple[str, str, str]:
    return name.rpartition(".")


def end(place: Place) -> tuple[str, int]:
    return place.shard, place.offset + place.size

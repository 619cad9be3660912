"""The fp32 graph against the reference: full passes, padding, every split into cached and active, reduced outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax

from dream_edge_export.checkpoint.checkpoint import Checkpoint
from dream_edge_export.export import export
from dream_edge_export.reference.model import Dream, load_reference
from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.inference.network import Rows
from support.checkpoints import random_weights, write_checkpoint, write_weights
from support.graphs import Graph, Outputs, reduced

GEOMETRIES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "one_kv_head": {"num_attention_heads": 8, "num_key_value_heads": 1, "num_hidden_layers": 1},
    "no_grouping": {"num_attention_heads": 2, "num_key_value_heads": 2},
    "ratio_of_7b": {"hidden_size": 112, "intermediate_size": 592, "num_attention_heads": 7, "num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True, "num_hidden_layers": 3},
    "other_constants": {"rope_theta": 10000.0, "rms_norm_eps": 1e-3, "hidden_size": 96, "num_attention_heads": 6},
}
TOLERANCE = 1e-4  # of the logits' scale: what an artifact promises


class World(NamedTuple):
    config: ModelConfig
    reference: Dream
    graph: Graph


def make(directory: Path, **geometry: Any) -> World:
    config = write_checkpoint(directory / "checkpoint", **geometry)
    checkpoint = Checkpoint.open(directory / "checkpoint")
    artifact = export(checkpoint, directory / "artifact", Recipe.for_scheme("fp32"))
    return World(config, load_reference(checkpoint), Graph(artifact))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("graph"))


def random_ids(config: ModelConfig, batch: int, length: int, seed: int = 0) -> IntArray:
    return np.random.default_rng(seed).integers(config.vocab_size, size=(batch, length))


def left_padding(lengths: list[int]) -> BoolArray:
    """[batch, longest]: false before each sequence."""
    return np.arange(max(lengths)) >= max(lengths) - np.array(lengths)[:, None]


def reference_logits(world: World, ids: IntArray, valid: BoolArray) -> FloatArray:
    """[batch * length, vocab]"""
    logits: FloatArray = world.reference(torch.from_numpy(ids), torch.from_numpy(valid)).numpy()
    return logits.reshape(-1, world.config.vocab_size)


def assert_equal_rows(found: FloatArray, expected: FloatArray, tolerance: float = TOLERANCE) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


# --- full passes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_logits_equal_the_reference(tmp_path: Path, geometry: dict[str, Any]) -> None:
    world = make(tmp_path, **geometry)
    valid = left_padding([19, 12, 1])
    ids = random_ids(world.config, *valid.shape)
    found = world.graph.full_pass(ids, valid)["logits"]
    real = valid.reshape(-1)
    assert_equal_rows(found[real], reference_logits(world, ids, valid)[real], 1e-5)


@pytest.mark.parametrize("length", [1, 2, 300])
def test_length_of_the_canvas_is_free(world: World, length: int) -> None:
    ids = random_ids(world.config, 1, length)
    valid = np.ones_like(ids, bool)
    assert_equal_rows(world.graph.full_pass(ids, valid)["logits"], reference_logits(world, ids, valid))


def test_padding_rows_are_finite_and_what_they_hold_does_not_matter(world: World) -> None:
    """A NaN in a row that nobody reads would still poison a batch's reduced outputs."""
    valid = left_padding([4, 11])
    ids = random_ids(world.config, *valid.shape)
    other = np.where(valid, ids, world.config.mask_token_id)
    found, changed = (world.graph.full_pass(tokens, valid) for tokens in (ids, other))
    assert all(np.isfinite(array).all() for array in found.values())
    assert (found["logits"][valid.reshape(-1)] == changed["logits"][valid.reshape(-1)]).all()


def test_only_asked_rows_are_computed_in_the_order_asked(world: World) -> None:
    ids = random_ids(world.config, 2, 9)
    valid = np.ones_like(ids, bool)
    positions = np.tile(np.arange(9), (2, 1))
    rows = np.array([17, 0, 4, 4, 9])
    some, full = world.graph.run(ids, positions, valid[:, None], rows), world.graph.full_pass(ids, valid)
    assert (some["top_ids"] == full["top_ids"][rows]).all()
    assert_equal_rows(some["logits"], full["logits"][rows], 1e-6)


def test_positions_beyond_any_table_are_computed(world: World) -> None:
    """Attention knows positions by their differences only: the same text a thousand places later is the same."""
    ids = random_ids(world.config, 1, 8)
    valid, rows = np.ones_like(ids, bool), np.arange(8)
    near = world.graph.run(ids, np.arange(8)[None], valid[:, None], rows)["logits"]
    far = world.graph.run(ids, np.arange(8)[None] + 1000, valid[:, None], rows)["logits"]
    assert_equal_rows(far, near)


# --- cached and active positions -------------------------------------------------------------------------------------


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_any_split_into_cached_and_active_equals_the_full_pass(world: World, data: st.DataObject) -> None:
    """Keys and values of a full pass are a fresh cache: whatever is active, in whatever order, gets its own logits."""
    lengths = data.draw(st.lists(st.integers(1, 14), min_size=1, max_size=3))
    valid = left_padding(lengths)
    batch, length = valid.shape
    ids = random_ids(world.config, batch, length, data.draw(st.integers(0, 3)))
    order = np.array(data.draw(st.permutations(range(length))))
    count = data.draw(st.integers(1, length))
    active, cached = order[:count], order[count:]
    full = world.graph.full_pass(ids, valid)
    past = {
        name.replace("present", "past"): array[:, :, cached]
        for name, array in full.items()
        if name.startswith("present")
    }
    positions = np.maximum(valid.cumsum(axis=1) - 1, 0)
    part = world.graph.run(
        ids[:, active],
        positions[:, active],
        np.concatenate([valid[:, cached], valid[:, active]], axis=1)[:, None],
        np.arange(batch * count),
        past=past,
    )
    real = valid[:, active].reshape(-1)
    expected = full["logits"].reshape(batch, length, -1)[:, active].reshape(batch * count, -1)
    if real.any():
        assert_equal_rows(part["logits"][real], expected[real], 1e-5)
        for name in past:
            computed, whole = part[name.replace("past", "present")], full[name.replace("past", "present")]
            seen = np.broadcast_to(valid[:, None, active, None], computed.shape)
            assert np.abs((computed - whole[:, :, active])[seen]).max() <= 1e-5 * np.abs(whole).max()


def test_stale_cache_changes_the_logits(world: World) -> None:
    """The cache is really read: with another text's keys and values the logits differ."""
    ids, other = random_ids(world.config, 1, 8, 1), random_ids(world.config, 1, 8, 2)
    valid = np.ones_like(ids, bool)
    fresh, stale = (
        world.graph.run(
            ids[:, 4:],
            np.arange(4, 8)[None],
            valid[:, None],
            np.arange(4),
            past={
                name.replace("present", "past"): array[:, :, :4]
                for name, array in world.graph.full_pass(tokens, valid).items()
                if name.startswith("present")
            },
        )["logits"]
        for tokens in (ids, other)
    )
    assert np.abs(fresh - stale).max() > 0.01 * np.abs(fresh).max()


# --- reduced outputs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
def test_reduced_outputs_are_those_of_the_full_logits(world: World, temperature: float) -> None:
    """In fp64 from the graph's own logits. Errors of exp and of sums over 448 ids in fp32 stay under 5e-6."""
    ids = random_ids(world.config, 2, 20)
    found: Outputs = world.graph.full_pass(ids, np.ones_like(ids, bool), temperature=temperature)
    scaled = found["logits"].astype(np.float64) / (temperature or 1.0)
    best = np.argsort(-scaled, axis=1, kind="stable")[:, :64]
    probabilities = softmax(scaled, axis=1)
    np.testing.assert_allclose(found["top_logits"], np.take_along_axis(scaled, best, 1), rtol=1e-6)
    np.testing.assert_allclose(found["top_probs"], np.take_along_axis(probabilities, best, 1), rtol=5e-6)
    np.testing.assert_allclose(found["log_normalizer"], logsumexp(scaled, axis=1), rtol=5e-6)
    entropy = (probabilities * np.log(probabilities + 1e-10)).sum(axis=1)
    np.testing.assert_allclose(found["neg_entropy"], entropy, rtol=1e-5)
    assert (
        np.take_along_axis(found["logits"], found["top_ids"], 1) >= np.take_along_axis(found["logits"], best, 1)
    ).all()


def test_full_logits_are_not_scaled(world: World) -> None:
    ids = random_ids(world.config, 1, 5)
    cold, warm = (world.graph.full_pass(ids, np.ones_like(ids, bool), temperature=t)["logits"] for t in (0.3, 2.0))
    assert (cold == warm).all()


def test_equal_logits_are_listed_by_lowest_id(tmp_path: Path) -> None:
    """Weights of all equal rows: every token of the vocabulary ties."""
    config = write_checkpoint(tmp_path / "checkpoint")
    weights = random_weights(config)
    weights["lm_head.weight"][:] = weights["lm_head.weight"][0]
    write_weights(tmp_path / "checkpoint", weights)
    artifact = export(Checkpoint.open(tmp_path / "checkpoint"), tmp_path / "artifact", Recipe.for_scheme("fp32"))
    ids = random_ids(config, 1, 6)
    found = Graph(artifact).full_pass(ids, np.ones_like(ids, bool))
    assert (found["logits"] == found["logits"][:, :1]).all()
    assert (found["top_ids"] == np.arange(64)).all()


def test_vocabulary_smaller_than_k_lists_all_of_it() -> None:
    logits = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
    found = reduced(logits, temperature=1.0, k=10)
    assert (found["top_ids"] == np.argsort(-logits, axis=1)).all()
    np.testing.assert_allclose(found["top_probs"].sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_nearly_certain_rows_of_a_large_vocabulary_are_exact(temperature: float) -> None:
    """Their order hangs on the last bits, and many are 1: the same bits as the host's, and the true ones."""
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((64, 152_064)) * 3).astype(np.float32)
    logits[np.arange(64), rng.integers(0, 152_064, 64)] += np.linspace(25, 45, 64).astype(np.float32)
    found = reduced(logits, temperature=temperature, k=4)
    host = Rows.from_logits(logits, temperature, 4)
    certain = host.top_probs[:, 0] > 0.9999
    assert 10 < certain.sum() < 64
    assert 5 < (host.top_probs[:, 0] == 1).sum() < certain.sum()
    assert found["top_probs"][certain, 0].tolist() == host.top_probs[certain, 0].tolist()
    assert np.abs(found["top_probs"] - host.top_probs).max() < 1e-5
    assert np.abs(found["neg_entropy"] - host.neg_entropy)[certain].max() < 1e-7


@pytest.mark.parametrize("gap", [0.0, 1.0, 17.0, 30.0, 200.0])
def test_confident_rows_keep_their_digits(gap: float) -> None:
    """Two tokens `gap` apart, and far below them the rest: probabilities near 1 and near 0 both stay right."""
    logits = np.full((1, 1000), -300.0, np.float32)
    logits[0, 7], logits[0, 3] = 50.0, 50.0 - gap
    found = reduced(logits, temperature=1.0, k=2)
    expected = softmax(logits.astype(np.float64), axis=1)[0, [7, 3]]
    order = [1, 0] if gap == 0 else [0, 1]
    assert found["top_ids"][0].tolist() == [[7, 3][index] for index in order]
    np.testing.assert_allclose(found["top_probs"][0], expected[order], rtol=1e-6, atol=1e-37)
    assert np.isfinite(found["neg_entropy"]).all()

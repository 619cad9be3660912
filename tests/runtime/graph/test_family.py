"""The fp32 graph of every form of the family, run as the runtime runs it: against transformers, and against itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dream_edge_export.export import export
from dream_edge_export.reference.model import Dream, load_reference
from dream_edge_runtime.arrays import BoolArray, FloatArray, IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Recipe
from dream_edge_runtime.inference.network import KeyValues
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from support.family import FAMILY, FULL_WIDTH, qwen, qwen_logits, write_family_checkpoint

VOCABULARY = {**FAMILY["bd3lm-Qwen2.5-Coder-0.5B"], "vocab_size": 151_936}
FORMS = {**FAMILY, **FULL_WIDTH, "151936 tokens": VOCABULARY}


class World(NamedTuple):
    config: ModelConfig
    network: OnnxNetwork
    reference: Dream


def make(directory: Path, facts: dict[str, Any]) -> World:
    checkpoint = write_family_checkpoint(directory / "checkpoint", **facts)
    artifact = export(checkpoint, directory / "artifact", Recipe.for_scheme("fp32"))
    return World(checkpoint.config, OnnxNetwork(artifact, threads=1), load_reference(checkpoint))


def attended(config: ModelConfig, valid: BoolArray, queries: IntArray, keys: IntArray) -> BoolArray:
    """[batch, queries, keys]: which of the places `keys` each of the places `queries` sees; row by row."""
    seen = np.zeros((len(valid), len(queries), len(keys)), np.bool_)
    for sequence, real in enumerate(valid):
        positions = np.maximum(real.cumsum() - 1, 0)
        for row, query in enumerate(queries):
            for column, key in enumerate(keys):
                n = config.causal_block
                later = n is not None and positions[key] // n > positions[query] // n
                seen[sequence, row, column] = real[key] and not later
    return seen


def left_padding(lengths: list[int]) -> BoolArray:
    return np.arange(max(lengths)) >= max(lengths) - np.array(lengths)[:, None]


def full_logits(world: World, ids: IntArray, valid: BoolArray) -> FloatArray:
    """[batch, length, vocab]"""
    places, positions = np.arange(ids.shape[1]), np.maximum(valid.cumsum(axis=1) - 1, 0)
    mask = attended(world.config, valid, places, places)
    logits = world.network.forward(ids, positions, mask, np.arange(ids.size), 0.0).fetch_logits()
    return logits.reshape(*ids.shape, -1)


@pytest.mark.parametrize("name", FORMS)
def test_logits_equal_those_of_transformers(tmp_path: Path, name: str) -> None:
    """Lengths that end inside a block, in the first one, and on an edge; to 1e-4, of logits of about 1."""
    world = make(tmp_path, FORMS[name])
    valid = left_padding([21, 5, 16])
    ids = np.random.default_rng(0).integers(world.config.vocab_size, size=valid.shape)
    model = qwen(world.reference)
    expected = qwen_logits(model, torch.from_numpy(ids), torch.from_numpy(valid), world.config.causal_block).numpy()
    assert 0.5 < expected[valid].std() < 2
    assert np.abs(full_logits(world, ids, valid) - expected)[valid].max() < 1e-4


@pytest.mark.parametrize("name", [name for name in FAMILY if not name.startswith("bd3lm")])
def test_one_mask_for_all_queries_is_full_attention(tmp_path: Path, name: str) -> None:
    """What a runtime feeds where no block is to be kept from another: the same keys for every query."""
    world = make(tmp_path, FAMILY[name] | {"causal_block": None})
    ids = np.random.default_rng(1).integers(world.config.vocab_size, size=(1, 19))
    places = np.arange(19)
    found = world.network.forward(ids, places[None], np.ones((1, 1, 19), np.bool_), places, 0.0).fetch_logits()
    assert np.abs(found - world.reference(torch.from_numpy(ids))[0].numpy()).max() < 1e-4


# --- blocks against a cache ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> list[World]:
    """Qwen2's and Qwen3's form, with and without shift, in blocks of several sizes."""
    forms = [
        FAMILY["Fast_dLLM_v2_1.5B"] | {"causal_block": 4},
        FAMILY["bd3lm-Qwen2.5-Coder-0.5B"] | {"causal_block": 1},
        FAMILY["bd3lm-Qwen3-0.6B"],
        FAMILY["DreamReasoner-8B"] | {"causal_block": 32, "shift": 1},
    ]
    return [make(tmp_path_factory.mktemp("form"), form) for form in forms]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_blocks_against_a_cache_equal_the_full_pass(worlds: list[World], data: st.DataObject) -> None:
    """Finished blocks are computed in one or more passes, the rest against what these kept.

    Some passes take several blocks at once, under a mask for each query; one block alone takes one mask for all.
    """
    world = data.draw(st.sampled_from(worlds))
    config, size = world.config, world.config.causal_block
    assert size is not None
    length = data.draw(st.integers(1, 70))
    ids = np.random.default_rng(data.draw(st.integers(0, 2**32))).integers(config.vocab_size, size=(1, length))
    edges = data.draw(st.sets(st.sampled_from(range(0, length, size)))) | {0, length}
    valid, places = np.ones((1, length), np.bool_), np.arange(length)
    expected, found = full_logits(world, ids, valid)[0], []
    past: KeyValues | None = None
    for start, end in zip(sorted(edges), sorted(edges)[1:], strict=False):
        active, cached = places[start:end], places[:start]
        mask = attended(config, valid, active, np.concatenate([cached, active]))
        if end - start <= size and data.draw(st.booleans()):
            mask = np.ones((1, 1, end), np.bool_)
        rows = np.arange(end - start)
        part = world.network.forward(ids[:, active], active[None], mask, rows, 0.0, past=past, keep=True)
        found.append(part.fetch_logits())
        assert part.key_values is not None
        past = part.key_values if past is None else past.append(part.key_values)
    assert np.abs(np.concatenate(found) - expected).max() <= 1e-5 * np.abs(expected).max()

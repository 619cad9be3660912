"""Passes made together against the same passes alone: which are joined, and what each is told."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dream_edge
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.inference.network import KeyValues, Network, Rows, attended_keys
from dream_edge_runtime.inference.together import PassRequest, forward_group, forward_together, plan_passes
from dream_edge_runtime.model import DreamModel
from support.block_loops import BlockNetwork
from support.networks import tiny_vocabulary
from support.remembering import RememberingNetwork

CONFIG = tiny_vocabulary()
BLOCKS = tiny_vocabulary(causal_block=8)
LAID_OUT = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 20), st.booleans(), st.sampled_from([0.0, 0.7])),
    min_size=1,
    max_size=6,
)
"""Of each sequence: how many positions are cached, how many active, whether they are kept, and the temperature."""


def request_for(
    network: Network, seed: int, cached: int, active: int, keep: bool, temperature: float, hide: bool = False
) -> PassRequest:
    """Over a random sequence whose first positions an earlier pass has computed; some of these may be hidden."""
    rng, config = np.random.default_rng([seed, cached, active]), network.config
    ids = rng.integers(config.vocab_size - 2, size=cached + active)
    places = np.arange(cached + active)
    past: KeyValues | None = None
    if cached:
        (mask,) = attended_keys(config, places[None, :cached], places[None, :cached], np.ones((1, cached), np.bool_))
        before = PassRequest(ids[:cached], places[:cached], mask, np.array([0]), 0.0, keep=True)
        (rows,) = forward_group(network, [before], None)
        past = rows.key_values
    seen = np.ones(cached + active, np.bool_)
    seen[:cached] = rng.random(cached) < 0.7 if hide else True
    (mask,) = attended_keys(config, places[None, cached:], places[None], seen[None])
    asked = np.sort(rng.choice(active, size=rng.integers(1, active + 1), replace=False))
    return PassRequest(ids[cached:], places[cached:], mask, asked, temperature, past, keep)


@cache
def load(name: str) -> DreamModel:
    return dream_edge.load(name, threads=1)


def alone(network: Network, request: PassRequest) -> Rows:
    ids, places, mask = request.input_ids[None], request.position_ids[None], request.attention_mask[None]
    return network.forward(
        ids, places, mask, request.logit_rows, request.temperature, None, past=request.past, keep=request.keep
    )


@settings(deadline=None, max_examples=40)
@given(LAID_OUT, st.integers(0, 99), st.booleans(), st.sampled_from([0, 3, 1000]))
def test_each_sequence_is_told_what_it_is_told_alone(
    laid_out: list[tuple[int, int, bool, float]], seed: int, in_blocks: bool, overhead: int
) -> None:
    """With networks that notice whoever sees padding; one is block-causal, so that queries see different keys."""
    network: Any = BlockNetwork(BLOCKS) if in_blocks else RememberingNetwork(CONFIG)
    requests = [request_for(network, seed + n, *one, hide=not in_blocks) for n, one in enumerate(laid_out)]
    network.pass_overhead, network.passes = overhead, 0
    found = forward_together(network, requests, None)
    temperatures = len({request.temperature for request in requests})
    assert temperatures <= network.passes <= (temperatures if overhead == 1000 else len(requests))
    for request, rows in zip(requests, found, strict=True):
        expected = alone(network, request)
        assert rows.top_ids.tolist() == expected.top_ids.tolist()
        np.testing.assert_array_equal(rows.fetch_logits(), expected.fetch_logits())
        assert (rows.key_values is not None) == request.keep
        if request.keep:
            assert isinstance(rows.key_values, type(expected.key_values))
            assert rows.key_values.ids.tolist() == request.input_ids.tolist()  # type: ignore[union-attr]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 400)), min_size=1, max_size=30), st.integers(0, 40))
def test_padding_never_costs_more_than_the_passes_it_saves(sizes: list[tuple[int, int]], overhead: int) -> None:
    class Keys:
        def __init__(self, count: int) -> None:
            self.count = count

    def request(active: int, cached: int) -> PassRequest:
        ids = np.zeros(active, np.int64)
        past: Any = Keys(cached) if cached else None
        return PassRequest(ids, ids, np.ones((1, active + cached), np.bool_), ids[:1], 0.0, past)

    groups = plan_passes(overhead, [request(*size) for size in sizes])
    assert sorted(index for group in groups for index in group) == list(range(len(sizes)))
    for group in groups:
        actives = [sizes[index][0] for index in group]
        padding = len(group) * max(actives) - sum(actives)
        assert padding <= overhead * (len(group) - 1)
        assert len(group) == 1 or len(group) * max(actives) <= 32 * overhead  # bounded memory


def test_alike_sequences_go_together_and_a_long_one_alone() -> None:
    network = RememberingNetwork(CONFIG)
    sizes = [(20, 5), (0, 30), (18, 6), (0, 7)]
    requests = [request_for(network, 0, *size, keep=False, temperature=0.0) for size in sizes]
    assert sorted(map(sorted, plan_passes(8, requests))) == [[0, 2, 3], [1]]
    assert len(plan_passes(0, requests)) == 4


def test_a_cancelled_pass_is_no_pass() -> None:
    model, cancel = dream_edge.load("tiny-fp32", threads=1), threading.Event()
    requests = [request_for(model.network, seed, 0, 4, False, 0.0) for seed in range(2)]
    cancel.set()
    with pytest.raises(Cancelled):
        forward_together(model.network, requests, cancel)


@pytest.mark.parametrize(("name", "tolerance"), [("tiny-fp32", 1e-5), ("tiny", 0.1), ("tiny-blocks", 0.1)])
@settings(deadline=None, max_examples=12)
@given(laid_out=LAID_OUT, seed=st.integers(0, 99))
def test_a_real_network_says_nearly_what_it_says_alone(
    name: str, tolerance: float, laid_out: list[tuple[int, int, bool, float]], seed: int
) -> None:
    """To the rounding of fp32; in 8 bits, an activation may thereby become the next integer."""
    model = load(name)
    requests = [
        request_for(model.network, seed + n, cached, active, keep, 0.0)
        for n, (cached, active, keep, _) in enumerate(laid_out)
    ]
    for request, rows in zip(requests, forward_group(model.network, requests, None), strict=True):
        expected = alone(model.network, request)
        wanted = expected.fetch_logits()
        assert np.abs(rows.fetch_logits() - wanted).max() <= tolerance * np.abs(wanted).max()
        if rows.key_values is not None and expected.key_values is not None:
            for found, own in zip(rows.key_values.values, expected.key_values.values, strict=True):  # type: ignore[attr-defined]
                assert found.shape() == own.shape()
                assert np.abs(found.numpy() - own.numpy()).max() <= tolerance * np.abs(own.numpy()).max()

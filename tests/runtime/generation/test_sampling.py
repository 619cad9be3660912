"""Drawing tokens: distributions, filters, and when the full logits are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from dream_edge_runtime.arrays import FloatArray
from dream_edge_runtime.generation.sampling import Filters, Greedy, Multinomial
from dream_edge_runtime.inference.network import Rows
from support.official import EXACT, TIE, TORCH, UNIT, Official

VOCAB = 30


def some_logits(rows: int, seed: int = 0) -> FloatArray:
    return (np.random.default_rng(seed).standard_normal((rows, VOCAB)) * 3).astype(np.float32)


@pytest.mark.parametrize(
    "filters", [{}, {"top_p": 0.6}, {"top_k": 4}, {"top_p": 0.95, "top_k": 20}, {"top_p": 1.0}], ids=str
)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampling_follows_the_filtered_distribution(temperature: float, filters: dict[str, Any]) -> None:
    """20,000 draws of one row against the oracle's probabilities; k is small, so the full logits are used as well."""
    logits = some_logits(1, seed=2)
    oracle = Official(mask_token_id=0, steps=1, temperature=temperature, **filters)
    expected = oracle.filtered(torch.from_numpy(logits)).double().numpy()[0]
    many = np.repeat(logits, 20_000, axis=0)
    draw = Multinomial(temperature=temperature, filters=Filters(**filters))
    proposal = draw.propose(Rows.from_logits(many, temperature, 6), np.random.default_rng(3))
    counts = np.bincount(proposal.tokens, minlength=VOCAB)
    assert (counts[expected == 0] == 0).all()
    likely = expected * len(many) >= 5
    observed = [*counts[likely], counts[~likely].sum()]
    wanted = [*(expected[likely] * len(many)), expected[~likely].sum() * len(many)]
    if wanted[-1] < 5:  # too few for the test: they join their neighbour
        observed, wanted = [*observed[:-2], observed[-2] + observed[-1]], [*wanted[:-2], wanted[-2] + wanted[-1]]
    if len(wanted) > 1:
        assert chisquare(observed, np.array(wanted) * sum(observed) / sum(wanted)).pvalue > 1e-4
    np.testing.assert_allclose(proposal.probability, expected[proposal.tokens], rtol=1e-5)


@given(
    seed=st.integers(0, 50),
    k=st.integers(1, VOCAB),
    top_p=st.none() | st.floats(0.05, 1.0),
    top_k=st.none() | st.integers(1, VOCAB + 5),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
)
def test_reduced_outputs_never_change_what_is_proposed(
    seed: int, k: int, top_p: float | None, top_k: int | None, temperature: float
) -> None:
    logits = some_logits(5, seed)
    filters = Filters(top_p=top_p, top_k=top_k)
    draw = Multinomial(temperature=temperature, filters=filters) if temperature else Greedy(filters=filters)
    few, all_of_them = (
        draw.propose(Rows.from_logits(logits, temperature, width), np.random.default_rng(seed))
        for width in (max(k, 2), VOCAB)
    )
    assert (few.tokens == all_of_them.tokens).all()
    assert (few.probability == all_of_them.probability).all()
    assert (few.margin == all_of_them.margin).all()
    np.testing.assert_allclose(few.neg_entropy, all_of_them.neg_entropy, rtol=1e-6, atol=1e-7)


def test_full_logits_are_fetched_only_where_they_are_needed() -> None:
    logits = some_logits(8)
    fetched = []

    def fetch() -> FloatArray:
        fetched.append("all")
        return logits

    def rows(k: int) -> Rows:
        found = Rows.from_logits(logits, 0.0, k)
        return Rows(
            found.top_logits,
            found.top_ids,
            found.top_probs,
            found.log_normalizer,
            found.neg_entropy,
            fetch,
        )

    Greedy().propose(rows(2), np.random.default_rng(0))
    Greedy(filters=Filters(top_k=1)).propose(rows(4), np.random.default_rng(0))
    Greedy(filters=Filters(top_p=0.01)).propose(rows(4), np.random.default_rng(0))
    assert fetched == []
    Greedy(filters=Filters(top_k=6)).propose(rows(4), np.random.default_rng(0))
    assert fetched == ["all"]


def test_first_token_beyond_top_p_is_kept() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2]], np.float32)
    rows = Rows.from_logits(np.log(probabilities), 1.0, 3)
    assert Filters(top_p=0.5).count_kept(rows)[0].tolist() in ([1], [2])  # 0.5 itself may round to either side
    assert Filters(top_p=0.6).count_kept(rows)[0].tolist() == [2]
    assert Filters(top_p=0.9).count_kept(rows)[0].tolist() == [3]


def test_ties_with_the_kth_token_are_kept() -> None:
    rows = Rows.from_logits(np.array([[2.0, 1.0, 1.0, 0.0]], np.float32), 1.0, 4)
    assert Filters(top_k=2).count_kept(rows)[0].tolist() == [3]


def test_equal_logits_go_to_the_lowest_id() -> None:
    rows = Rows.from_logits(np.zeros((1, VOCAB), np.float32), 0.0, 5)
    assert rows.top_ids[0].tolist() == [0, 1, 2, 3, 4]
    assert Greedy().propose(rows, np.random.default_rng(0)).tokens.tolist() == [0]


def test_nearly_certain_tokens_have_the_probability_next_to_the_true_one() -> None:
    """Positions are put in order by the last bits there. PyTorch's own are a few roundings off, as its kernel adds."""
    logits = some_logits(200, seed=9)
    logits[np.arange(200), np.arange(200) % VOCAB] += np.linspace(5, 25, 200).astype(np.float32)
    found = Rows.from_logits(logits, 0.0, 1)
    exact, upstream = (
        Official(mask_token_id=0, steps=1, alg="maskgit_plus", arithmetic=arithmetic) for arithmetic in (EXACT, TORCH)
    )
    given = torch.from_numpy(logits)
    assert found.top_probs[:, 0].tolist() == exact.sample_tokens(given)[0].tolist()
    assert np.abs(found.top_probs[:, 0] - upstream.sample_tokens(given)[0].numpy()).max() <= TIE * UNIT
    exact.alg = "entropy"
    assert found.neg_entropy.tolist() == exact.sample_tokens(given)[0].tolist()

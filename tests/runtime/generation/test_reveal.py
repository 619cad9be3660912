"""Which positions are revealed: orders, rankings, and the three ways to choose."""

from __future__ import annotations

import numpy as np
import pytest

from dream_edge_runtime.generation.config import GenerationConfig
from dream_edge_runtime.generation.order import ORDERS, Ranking
from dream_edge_runtime.generation.reveal.parallel import ConfidenceThreshold, Unrepeated
from dream_edge_runtime.generation.reveal.scheduled import Origin, Quota
from dream_edge_runtime.generation.sampling import Proposal
from dream_edge_runtime.generation.schedule import Timestep
from dream_edge_runtime.generation.strategies import create_reveal
from dream_edge_runtime.inference.network import Rows

ROWS = Rows.from_logits(np.zeros((4, 8), np.float32), 0.0)
POSITIONS = np.array([3, 5, 6, 9])
PROPOSAL = Proposal(
    tokens=np.array([1, 2, 3, 4]),
    probability=np.array([0.5, 0.95, 0.9, 0.95], np.float32),
    margin=np.array([0.4, 0.2, 0.3, 0.4], np.float32),
    neg_entropy=np.array([-0.1, -0.9, -0.1, -0.5], np.float32),
)
MIDDLE, LAST = Timestep(1, 4, np.float32(0.5)), Timestep(3, 4, np.float32(1))
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("maskgit_plus", [1, 3, 2, 0]),
        ("topk_margin", [0, 3, 2, 1]),
        ("entropy", [0, 2, 3, 1]),
        ("left_to_right", [0, 1, 2, 3]),
    ],
)
def test_orders_put_the_confident_first_and_equals_by_position(name: str, expected: list[int]) -> None:
    ranking = Ranking(ORDERS[name]())
    assert ranking.best_first(PROPOSAL, POSITIONS, RANDOM).tolist() == expected
    assert Quota(ranking).choose(PROPOSAL, ROWS, POSITIONS, MIDDLE, RANDOM).tolist() == expected[:2]
    assert Quota(ranking).choose(PROPOSAL, ROWS, POSITIONS, LAST, RANDOM).tolist() == expected


def test_quota_asks_for_nothing_where_nothing_is_granted() -> None:
    quota = Quota(Ranking(ORDERS["entropy"]()))
    assert not quota.ask(1, MIDDLE, RANDOM).size
    assert quota.ask(2, MIDDLE, RANDOM).tolist() == [0, 1]
    assert quota.ask(1, LAST, RANDOM).tolist() == [0]


def test_origin_asks_for_each_position_with_the_share_as_its_chance() -> None:
    asked = [len(Origin().ask(100, MIDDLE, RANDOM)) for _ in range(400)]
    assert abs(np.mean(asked) - 50) < 1  # four standard errors
    assert len(Origin().ask(100, LAST, RANDOM)) == 100


@pytest.mark.parametrize(("threshold", "expected"), [(0.4, [0, 2, 3, 1]), (0.5, [0, 2, 3, 1]), (0.6, [0]), (0.96, [0])])
def test_a_threshold_goes_by_the_order_and_compares_the_probability(threshold: float, expected: list[int]) -> None:
    reveal = ConfidenceThreshold(ranking=Ranking(ORDERS["entropy"]()), value=threshold)
    assert reveal.choose(PROPOSAL, ROWS, POSITIONS, MIDDLE, RANDOM).tolist() == expected
    assert reveal.choose(PROPOSAL, ROWS, POSITIONS, LAST, RANDOM).tolist() == [0, 2, 3, 1]
    best_first = ConfidenceThreshold(ranking=Ranking(ORDERS["maskgit_plus"]()), value=0.9)
    assert best_first.choose(PROPOSAL, ROWS, POSITIONS, MIDDLE, RANDOM).tolist() == [1, 3, 2]


def test_a_ranking_temperature_favours_the_confident() -> None:
    cold, hot = (Ranking(ORDERS["maskgit_plus"](), temperature) for temperature in (1e-3, 1e3))
    firsts = [[int(ranking.best_first(PROPOSAL, POSITIONS, RANDOM)[0]) for _ in range(2000)] for ranking in (cold, hot)]
    assert set(firsts[0]) == {1, 3}
    assert np.abs(np.bincount(firsts[1]) - 500).max() < 100


def test_origin_with_a_threshold_goes_by_probability() -> None:
    reveal = create_reveal(GenerationConfig(threshold=0.9))
    expected = ConfidenceThreshold(ranking=Ranking(ORDERS["maskgit_plus"](), None), value=0.9)
    assert reveal == Unrepeated(expected)

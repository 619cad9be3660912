"""What requests may hold, beside what OpenAI's client sends."""

from __future__ import annotations

from typing import get_args

from dream_edge.openai.requests import Algorithm
from dream_edge_runtime.generation.config import ALGORITHMS


def test_every_algorithm_may_be_asked_for() -> None:
    assert set(get_args(Algorithm)) == set(ALGORITHMS)

"""benchmarks/official_spread.py counts what differs, and its loop runs in bf16."""

from __future__ import annotations

import torch

import dream_edge
from benchmarks.official_spread import ALGORITHMS, NEW, differing, official
from dream_edge_export.checkpoint.checkpoint import Checkpoint

SAME = [[5, 6], [0, 1]]


def test_tokens_and_steps_are_counted_apart() -> None:
    assert differing([SAME, SAME], [SAME, SAME]) == "0 / 0"
    assert differing([SAME, SAME], [SAME, [[7, 8], [0, 2]]]) == "2 / 1"
    assert differing([SAME, SAME], [[[5, 6], [1, 0]], SAME]) == "0 / 2"


def test_official_loop_in_bf16_reveals_every_token_at_some_step() -> None:
    mask = Checkpoint.open(dream_edge.resolve_checkpoint("tiny")).config.mask_token_id
    texts = official([[1, 2]], torch.bfloat16)
    assert list(texts) == list(ALGORITHMS)
    for alg, [[tokens, steps]] in texts.items():
        assert mask not in tokens, alg
        assert max(steps) == NEW - 1, alg
        assert len(set(steps)) > NEW // 4, alg

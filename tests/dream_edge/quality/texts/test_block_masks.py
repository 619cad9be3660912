"""Masks for block-causal networks: those of one block, after clean ones and before nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dream_edge.quality.texts.masking import MaskedPassage, mask_passages
from dream_edge.quality.texts.read import Passage
from support.networks import small_config

BLOCK, MASK = 8, 7


def draw(shift: int, lengths: list[tuple[int, int]], count: int, seed: int = 0) -> list[MaskedPassage]:
    """Masked passages of ids 100, 101, …; `lengths` are (length, start)."""
    config = small_config(mask_token_id=MASK, shift=shift, causal_block=BLOCK)
    made = [Passage(np.arange(100, 100 + length), start) for length, start in lengths]
    return [*mask_passages(made, config, count=count, bins=5, seed=seed)]


def filled_together(shift: int, position: int) -> range:
    """The positions of one block that are filled together; under a shift its first is filled before the others."""
    begin = position // BLOCK * BLOCK
    if shift and position == begin:
        return range(begin, begin + 1)
    return range(begin + shift, begin + BLOCK)


@pytest.mark.parametrize("shift", [0, 1])
def test_masks_lie_in_the_last_block_of_what_is_shown(shift: int) -> None:
    """The prompt and earlier blocks are clean, later ones are not there; ratios are of what may be masked in it."""
    for masked in draw(shift, [(30, 0), (30, 13), (9, 8), (5, 2), (64, 63)], 200):
        together = filled_together(shift, int(masked.positions[0]))
        assert set(masked.positions.tolist()) <= set(together)
        hidden = masked.canvas == MASK
        assert np.flatnonzero(hidden).tolist() == masked.positions.tolist()
        assert (masked.canvas[~hidden] == 100 + np.flatnonzero(~hidden)).all()
        assert masked.targets.tolist() == (100 + masked.positions).tolist()
        assert len(masked.canvas) <= together.stop
        assert masked.canvas[-1] in (MASK, 100 + len(masked.canvas) - 1)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(("length", "start"), [(30, 0), (30, 13), (21, 7), (16, 8)])
def test_what_may_be_masked_is_the_block_without_the_prompt(shift: int, length: int, start: int) -> None:
    """Every size from one mask to all of the block is drawn equally often, and the canvas ends with the block."""
    sizes: dict[int, Counter[int]] = {}
    for masked in draw(shift, [(length, start)], 6000):
        together = filled_together(shift, int(masked.positions[-1]))
        may = range(max(start, together.start), min(length, together.stop))
        assert len(masked.canvas) == may.stop
        assert set(masked.positions.tolist()) <= set(may)
        sizes.setdefault(may.start, Counter())[len(masked.positions)] += 1
        ratio = len(masked.positions) / len(may)
        assert masked.bin / 5 < ratio <= (masked.bin + 1) / 5 + 1e-12
    for first, found in sizes.items():
        together = filled_together(shift, first)
        may = range(first, min(length, together.stop))
        expected = 6000 / (length - start)  # the block as often as it has tokens, and each of their numbers alike
        assert set(found) == set(range(1, len(may) + 1))
        assert all(abs(count - expected) < 6 * expected**0.5 for count in found.values())


@pytest.mark.parametrize("shift", [0, 1])
def test_the_mean_over_draws_counts_every_token_equally(shift: int) -> None:
    """Where each token has a log p of its own whatever is masked, the bound a token is their mean."""
    log_p = np.arange(25.0)
    draws = draw(shift, [(25, 0)], 20000)
    means = np.array([log_p[masked.positions].mean() for masked in draws])
    assert abs(means.mean() - log_p.mean()) < 4 * means.std() / len(draws) ** 0.5
    assert np.concatenate([masked.positions for masked in draws]).min() == 0


def test_full_attention_sees_whole_texts() -> None:
    made = [Passage(np.arange(100, 130), 13)]
    for masked in mask_passages(made, small_config(mask_token_id=MASK), count=20, bins=5, seed=0):
        assert len(masked.canvas) == 30

"""The canvas: masks by position, padding on the left, and the shift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream_edge_runtime.errors import InvalidTokenId
from dream_edge_runtime.generation.canvas import Canvas, MaskedSequence

MASK, PAD = 9, 8


def canvas_of(*sequences: list[list[int] | int], shift: int = 1) -> Canvas:
    return Canvas([MaskedSequence.of(parts, MASK) for parts in sequences], MASK, PAD, shift)


@given(st.lists(st.lists(st.integers(1, 5) | st.lists(st.integers(0, MASK), max_size=4), min_size=1), min_size=1))
def test_any_batch_keeps_every_sequence_behind_its_padding(batch: list[list[int | list[int]]]) -> None:
    batch = [[*parts, [1]] for parts in batch]
    canvas = canvas_of(*batch)
    for row, parts in enumerate(batch):
        ids = [token for part in parts for token in ([MASK] * part if isinstance(part, int) else part)]
        assert canvas.sequence(row).tolist() == ids
        assert canvas.sequence_masked(row).sum() == sum(part for part in parts if isinstance(part, int))
        assert canvas.valid[row].sum() == len(ids)
        assert not canvas.masked[row][~canvas.valid[row]].any()
        assert canvas.position_ids[row][canvas.valid[row]].tolist() == list(range(len(ids)))


def test_mask_id_in_a_prompt_is_text() -> None:
    canvas = canvas_of([[1, MASK, 2], 2])
    assert canvas.masked.tolist() == [[False, False, False, True, True]]


def test_position_is_predicted_by_the_one_before_it_and_the_first_by_itself() -> None:
    canvas = canvas_of([3], [[1, 2, 3, 4], 1])
    assert canvas.first.tolist() == [2, 0]
    assert canvas.logit_rows(0, np.array([2, 3, 4])).tolist() == [2, 2, 3]
    assert canvas.logit_rows(1, np.array([4])).tolist() == [3]


def test_network_that_predicts_in_place_is_asked_for_the_positions_themselves() -> None:
    canvas = canvas_of([3], [[1, 2, 3, 4], 1], shift=0)
    assert canvas.logit_rows(0, np.array([2, 3, 4])).tolist() == [2, 3, 4]
    assert canvas.logit_rows(1, np.array([4])).tolist() == [4]


def test_revealing_the_mask_id_settles_nothing() -> None:
    canvas = canvas_of([[1], 3])
    assert canvas.reveal(0, np.array([1, 3]), np.array([4, MASK])).tolist() == [True, False]
    assert canvas.masked.tolist() == [[False, False, True, True]]


def test_rewriting_masks_and_settles_only_what_changed() -> None:
    canvas = canvas_of([[1, MASK, 2], 2], [[1] * 9])
    canvas.rewrite(0, np.array([MASK, MASK, 2, 5, MASK]), vocab_size=10)
    assert canvas.sequence_masked(0).tolist() == [True, False, False, False, True]
    assert not canvas.masked[0, :4].any()


@pytest.mark.parametrize("token", [-1, 10])
def test_rewriting_refuses_ids_outside_the_vocabulary(token: int) -> None:
    with pytest.raises(InvalidTokenId, match=str(token)):
        canvas_of([[1], 1]).rewrite(0, np.array([1, token]), vocab_size=10)

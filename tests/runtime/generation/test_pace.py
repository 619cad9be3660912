"""Blocks: which masks are filled together, in how many steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream_edge_runtime.generation.pace import Pace, Turn
from dream_edge_runtime.generation.schedule import Schedule


def bits(text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """ "_" is a mask."""
    return np.array([letter == "_" for letter in text])


def turn(pace: Pace, text: str) -> Turn:
    found = pace.next(bits(text))
    assert found is not None
    return found


def test_without_blocks_it_is_the_schedule() -> None:
    pace = Pace(bits("ab____"), 7, 1e-3)
    turns = [turn(pace, "ab____") for _ in range(7)]
    assert [each.moment for each in turns] == list(Schedule(steps=7, eps=1e-3))
    assert all(each.positions.tolist() == [2, 3, 4, 5] and each.block == 0 for each in turns)
    assert pace.next(bits("ab____")) is None


def test_blocks_are_filled_from_left_to_right() -> None:
    pace = Pace(bits("a_____"), 5, 1e-3, block_length=2)
    assert turn(pace, "a_____").positions.tolist() == [1, 2]
    assert turn(pace, "ax____").positions.tolist() == [2]
    assert turn(pace, "axx___").positions.tolist() == [3, 4]
    assert turn(pace, "axxxx_").positions.tolist() == [5]


def test_a_block_may_span_holes() -> None:
    """Three masks a block, whatever stands between them."""
    pace = Pace(bits("_a_bb__c_"), 5, 1e-3, block_length=3)
    assert turn(pace, "_a_bb__c_").positions.tolist() == [0, 2, 5]
    assert turn(pace, "xaxbbx_c_").positions.tolist() == [6, 8]


def test_a_block_that_is_done_early_gives_way_at_once() -> None:
    """As with a threshold; the next block begins with the first moment of its own schedule."""
    pace = Pace(bits("______"), 6, 1e-3, block_length=3)
    assert turn(pace, "______").moment.index == 0
    following = turn(pace, "xxx___")
    assert (following.block, following.moment.index, following.moment.steps) == (1, 0, 3)


@pytest.mark.parametrize(("steps", "expected"), [(6, [2, 2, 2]), (7, [3, 2, 2]), (8, [3, 3, 2]), (1, [1, 1, 1])])
def test_steps_are_shared_out(steps: int, expected: list[int]) -> None:
    pace = Pace(bits("_" * 12), steps, 1e-3, block_length=4)
    assert pace.steps == sum(expected)
    found = [turn(pace, text).moment.steps for text in ("_" * 12, "x" * 4 + "_" * 8, "x" * 8 + "_" * 4)]
    assert found == expected


def test_what_is_masked_again_belongs_to_its_block() -> None:
    pace = Pace(bits("____"), 4, 1e-3, block_length=2)
    assert [turn(pace, text).block for text in ("____", "xx__", "x___")] == [0, 1, 0]


def test_nothing_masked_is_the_end() -> None:
    assert Pace(bits("____"), 4, 1e-3, block_length=2).next(bits("abcd")) is None
    assert Pace(bits("abcd"), 1, 1e-3).next(bits("abcd")) is None


@given(
    masked=st.lists(st.booleans(), min_size=1, max_size=60),
    steps=st.integers(1, 80),
    length=st.integers(1, 70) | st.none(),
)
def test_every_mask_gets_its_turn_within_the_planned_steps(masked: list[bool], steps: int, length: int | None) -> None:
    """Revealing as the schedule grants, all masks are gone when the steps are, and blocks never go back."""
    left = np.array(masked)
    pace = Pace(left, steps, 1e-3, length)
    blocks, made = [], 0
    while (now := pace.next(left)) is not None:
        assert length is None or now.positions.size <= length
        left[now.positions[: now.moment.quota(now.positions.size)]] = False
        blocks.append(now.block)
        made += 1
    assert not left.any()
    assert made <= pace.steps
    assert blocks == sorted(blocks)

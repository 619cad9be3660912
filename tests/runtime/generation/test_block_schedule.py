"""Blocks: which masks are filled together, in how many steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream_edge_runtime.generation.schedule import BlockSchedule, BlockStep, Schedule


def bits(text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """ "_" is a mask."""
    return np.array([letter == "_" for letter in text])


def block_step(blocks: BlockSchedule, text: str) -> BlockStep:
    found = blocks.next(bits(text))
    assert found is not None
    return found


def test_without_blocks_it_is_the_schedule() -> None:
    blocks = BlockSchedule(bits("ab____"), 7, 1e-3)
    block_steps = [block_step(blocks, "ab____") for _ in range(7)]
    assert [each.timestep for each in block_steps] == list(Schedule(steps=7, eps=1e-3))
    assert all(each.positions.tolist() == [2, 3, 4, 5] and each.block == 0 for each in block_steps)
    assert blocks.next(bits("ab____")) is None


def test_blocks_are_filled_from_left_to_right() -> None:
    blocks = BlockSchedule(bits("a_____"), 5, 1e-3, block_length=2)
    assert block_step(blocks, "a_____").positions.tolist() == [1, 2]
    assert block_step(blocks, "ax____").positions.tolist() == [2]
    assert block_step(blocks, "axx___").positions.tolist() == [3, 4]
    assert block_step(blocks, "axxxx_").positions.tolist() == [5]


def test_a_block_may_span_holes() -> None:
    """Three masks a block, whatever stands between them."""
    blocks = BlockSchedule(bits("_a_bb__c_"), 5, 1e-3, block_length=3)
    assert block_step(blocks, "_a_bb__c_").positions.tolist() == [0, 2, 5]
    assert block_step(blocks, "xaxbbx_c_").positions.tolist() == [6, 8]


def test_a_block_that_is_done_early_gives_way_at_once() -> None:
    """As with a threshold; the next block begins with the first moment of its own schedule."""
    blocks = BlockSchedule(bits("______"), 6, 1e-3, block_length=3)
    assert block_step(blocks, "______").timestep.index == 0
    following = block_step(blocks, "xxx___")
    assert (following.block, following.timestep.index, following.timestep.steps) == (1, 0, 3)


@pytest.mark.parametrize(("steps", "expected"), [(6, [2, 2, 2]), (7, [3, 2, 2]), (8, [3, 3, 2]), (1, [1, 1, 1])])
def test_steps_are_shared_out(steps: int, expected: list[int]) -> None:
    blocks = BlockSchedule(bits("_" * 12), steps, 1e-3, block_length=4)
    assert blocks.steps == sum(expected)
    found = [block_step(blocks, text).timestep.steps for text in ("_" * 12, "x" * 4 + "_" * 8, "x" * 8 + "_" * 4)]
    assert found == expected


def test_what_is_masked_again_belongs_to_its_block() -> None:
    blocks = BlockSchedule(bits("____"), 4, 1e-3, block_length=2)
    assert [block_step(blocks, text).block for text in ("____", "xx__", "x___")] == [0, 1, 0]


def test_nothing_masked_is_the_end() -> None:
    assert BlockSchedule(bits("____"), 4, 1e-3, block_length=2).next(bits("abcd")) is None
    assert BlockSchedule(bits("abcd"), 1, 1e-3).next(bits("abcd")) is None


@given(
    masked=st.lists(st.booleans(), min_size=1, max_size=60),
    steps=st.integers(1, 80),
    length=st.integers(1, 70) | st.none(),
)
def test_every_mask_gets_its_turn_within_the_planned_steps(masked: list[bool], steps: int, length: int | None) -> None:
    """Revealing as the schedule grants, all masks are gone when the steps are, and blocks never go back."""
    left = np.array(masked)
    blocks = BlockSchedule(left, steps, 1e-3, length)
    visited, made = [], 0
    while (now := blocks.next(left)) is not None:
        assert length is None or now.positions.size <= length
        left[now.positions[: now.timestep.quota(now.positions.size)]] = False
        visited.append(now.block)
        made += 1
    assert not left.any()
    assert made <= blocks.steps
    assert visited == sorted(visited)

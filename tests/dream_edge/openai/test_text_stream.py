"""What has been streamed stands: pieces add up to the finished text, in whatever order tokens were revealed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dream_edge
from dream_edge.openai.text_stream import StableText
from dream_edge_runtime.generation.results import CanvasReader, Generation, Step
from dream_edge_runtime.text.chat import end_ids

MODEL = dream_edge.load("tiny", threads=1)
ENDS = end_ids(MODEL.tokenizer, MODEL.config.eos_token_id)


def steps_of(ids: list[int], order: list[int], stop: tuple[str, ...], before: int) -> tuple[list[Step], Generation]:
    """A canvas of `ids` revealed one at a time in `order`, the first `before` given."""
    reader = CanvasReader(MODEL.tokenizer, before, ENDS, stop)
    masked = np.ones(len(ids), np.bool_)
    masked[:before] = False
    made: list[Any] = []
    for index, at in enumerate(order, 1):
        masked[before + at] = False
        shown = np.where(masked, MODEL.config.mask_token_id, np.array(ids))
        made.append(
            Step(
                index,
                len(order),
                shown,
                masked.copy(),
                range(before, len(ids)),
                (range(before, len(ids)),),
                np.array([before + at]),
                np.array([0.5], np.float32),
                index / len(order),
                reader,
            )
        )
    text = reader.text(np.array(ids), np.zeros(len(ids), np.bool_))
    hole = MODEL.tokenizer.decode(np.array(ids[before:]))
    return made, SimpleNamespace(text=text, holes=(hole,))  # type: ignore[return-value]


@given(data=st.data(), is_hole=st.booleans())
@settings(max_examples=150, deadline=None)
def test_pieces_add_up(data: st.DataObject, *, is_hole: bool) -> None:
    text = data.draw(st.text(alphabet="ab é€😀.\n", min_size=1, max_size=12))
    ids = MODEL.tokenizer.encode(text)
    if data.draw(st.booleans()):
        ids = [*ids, min(ENDS), *MODEL.tokenizer.encode("after")]
    order = data.draw(st.permutations(range(len(ids))))
    stop = tuple(data.draw(st.lists(st.sampled_from(["a", "ab", "b ", "é€", "aba", ".\n"]), max_size=2)))
    steps, generation = steps_of(
        [*MODEL.tokenizer.encode("given "), *ids], order, stop, len(MODEL.tokenizer.encode("given "))
    )
    follower = StableText(stop, is_hole=is_hole)
    pieces = [follower.advance(step) for step in steps]
    pieces.append(follower.finish(generation))
    assert "".join(pieces) == follower.whole(generation)
    assert "\ufffd" not in "".join(pieces[:-1])


def test_text_is_handed_out_as_soon_as_it_is_settled() -> None:
    ids = MODEL.tokenizer.encode("one two three four")
    steps, _ = steps_of(ids, [*range(len(ids))], (), 0)
    follower = StableText((), is_hole=False)
    for count, step in enumerate(steps, 1):
        assert follower.advance(step) == MODEL.tokenizer.decode(np.array(ids[count - 1 : count]))


def test_nothing_is_handed_out_before_what_stands_left_of_it() -> None:
    ids = MODEL.tokenizer.encode("one two three")
    steps, generation = steps_of(ids, [*reversed(range(len(ids)))], (), 0)
    follower = StableText((), is_hole=False)
    assert [follower.advance(step) for step in steps[:-1]] == [""] * (len(ids) - 1)
    assert follower.advance(steps[-1]) == generation.text


@pytest.mark.parametrize(("stop", "kept"), [(("three",), "one two "), (("o t",), "one tw"[:4] + "tw"), ((" ",), "one")])
def test_a_stop_string_that_has_begun_is_held_back(stop: tuple[str, ...], kept: str) -> None:
    ids = MODEL.tokenizer.encode("one two three")
    steps, generation = steps_of(ids, [*range(len(ids))], stop, 0)
    follower = StableText(stop, is_hole=True)
    handed = ""
    for step in steps:
        handed += follower.advance(step)
        assert kept.startswith(handed)
    assert handed + follower.finish(generation) == kept


def test_cells_spell_every_character() -> None:
    text = "né 語😀!"
    ids = MODEL.tokenizer.encode(text)
    assert any("\ufffd" in MODEL.tokenizer.decode(np.array([each])) for each in ids)  # or this shows nothing
    steps, _ = steps_of(ids, [*range(len(ids))], (), 0)
    follower = StableText((), is_hole=False)
    cells = follower.cells(steps[-1])
    assert len(cells) == len(ids)
    assert "".join(cell["text"] for cell in cells) == text
    half = follower.cells(steps[-3])  # the emoji's last bytes are missing
    assert len(half) == len(ids)
    assert [cell["masked"] for cell in half[-2:]] == [True, True]

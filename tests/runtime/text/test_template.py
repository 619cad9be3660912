"""Templates: texts, holes, and what is neither."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream_edge_runtime.errors import InvalidTemplate
from dream_edge_runtime.text.template import Hole, parse_template

TEXT = st.text(st.characters(exclude_characters="[]"), min_size=1)


@given(first=TEXT, size=st.integers(1, 1000), last=TEXT)
def test_texts_and_holes_come_in_order(first: str, size: int, last: str) -> None:
    assert parse_template(f"{first}[[{size}]]{last}[[2]][[3]]") == [first, Hole(size), last, Hole(2), Hole(3)]


def test_single_brackets_are_text() -> None:
    assert parse_template("a[0] = [[1, 2], [3]] [[4]]") == ["a[0] = [[1, 2], [3]] ", Hole(4)]


@pytest.mark.parametrize(
    "template",
    ["", "none", "[[]]", "[[0]]", "[[x]]", "[[-1]]", "[[1.5]]", "[[ 2 ]]", "[[٣]]", "[[" + "9" * 5000 + "]]"],
)
def test_what_is_no_hole_is_refused(template: str) -> None:
    with pytest.raises(InvalidTemplate) as caught:
        parse_template(template)
    assert len(str(caught.value)) < 200


def test_pieces_are_taken_as_they_are() -> None:
    assert parse_template(["a [[1]] ", 2, "", "b", Hole(3)]) == ["a [[1]] ", Hole(2), "b", Hole(3)]
    assert parse_template((1,)) == [Hole(1)]


@pytest.mark.parametrize(
    "pieces", [[], ["a"], ["a", 0], ["a", -1], ["a", True], ["a", 1.0], ["a", None], ["a", 1 << 21]]
)
def test_pieces_that_are_none_are_refused(pieces: Any) -> None:
    with pytest.raises(InvalidTemplate):
        parse_template(pieces)

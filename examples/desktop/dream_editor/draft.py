"""Where drafts stand in a text that is edited meanwhile. Positions are those of the text field, in its units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """`length` characters of a draft, shown instead of the user's own text from `start` up to `stop`."""

    start: int
    stop: int
    length: int

    @property
    def growth(self) -> int:
        return self.length - (self.stop - self.start)


Places = tuple[Place, ...]
"""In order, none inside another."""


def to_shown(places: Places, own: int) -> int:
    """Where a position in the user's own text is while the drafts are shown."""
    shift = 0
    for place in places:
        if own <= place.start:
            break
        if own < place.stop:
            return place.start + shift
        shift += place.growth
    return own + shift


def to_own(places: Places, shown: int) -> int:
    """The opposite. A position in a draft counts as the end of what stands there."""
    shift = 0
    for place in places:
        if shown <= place.start + shift:
            break
        if shown < place.start + shift + place.length:
            return place.stop
        shift += place.growth
    return shown - shift


def after_edit(places: Places, at: int, removed: int, added: int) -> Places | None:
    """Where the drafts stand after an edit of the user's own text; None where it reaches into one of them."""
    if any(place.start < at + removed and at < place.stop for place in places):
        return None
    moved = added - removed
    return tuple(
        Place(place.start + moved, place.stop + moved, place.length) if at + removed <= place.start else place
        for place in places
    )


def difference(before: Sequence[object], after: Sequence[object]) -> tuple[int, int, int]:
    """After how many equal ones two sequences begin to differ, and how many are removed and added there."""
    shorter = min(len(before), len(after))
    head = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    tail = next((i for i in range(shorter - head) if before[-1 - i] != after[-1 - i]), shorter - head)
    return head, len(before) - head - tail, len(after) - head - tail

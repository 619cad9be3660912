"""The part of a text that no later step changes, for clients that can only add to what they have shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from dream_edge_runtime.generation.results import CUT_CHARACTER, Generation, Step


class Cell(TypedDict):
    """One token of a canvas. A character that several tokens spell stands in the first of them."""

    text: str
    masked: bool
    given: bool
    """Whether it stood there from the start."""
    confidence: float | None
    """Its probability, where it is new at this step."""


class StableText:
    """Follows one text; each piece it hands out comes after the piece before.

    Args:
        stop: strings before which it ends.
        is_hole: whether the text is what stands in the first hole, instead of all that is shown.
    """

    def __init__(self, stop: Sequence[str], *, is_hole: bool) -> None:
        self._stop, self._is_hole = tuple(stop), is_hole
        self._handed = 0

    def advance(self, step: Step) -> str:
        """What `step` has settled since the last one."""
        text = self._cut(step.settled_hole_texts[0]) if self._is_hole else step.settled
        return self._hand(text[: len(text) - self._unsure(text)])

    def so_far(self, step: Step) -> str:
        """All of the text as it stands, masks included."""
        return self._cut(step.hole_texts[0]) if self._is_hole else step.text

    def finish(self, generation: Generation) -> str:
        """What is left of the finished text."""
        return self._hand(self.whole(generation))

    def whole(self, generation: Generation) -> str:
        """The finished text."""
        return self._cut(generation.holes[0]) if self._is_hole else generation.text

    def cells(self, step: Step) -> list[Cell]:
        """Every cell of the text as it stands."""
        new = dict(zip(step.revealed.tolist(), step.confidence.tolist(), strict=True))
        written = {at for hole in step.holes for at in hole}
        place = step.holes[0] if self._is_hole else step.shown
        return [
            {"text": text, "masked": bool(step.masked[at]), "given": at not in written, "confidence": new.get(at)}
            for at, text in zip(place, step.token_texts(place), strict=True)
        ]

    def _cut(self, text: str) -> str:
        """A hole's `text`, up to the first stop string."""
        return text[: min((place for place in map(text.find, self._stop) if place >= 0), default=len(text))]

    def _hand(self, text: str) -> str:
        piece = text[self._handed :]
        self._handed = max(self._handed, len(text))
        return piece

    def _unsure(self, text: str) -> int:
        """How many characters at the end may yet change: half a character, or the beginning of a stop string."""
        sure = text.rstrip(CUT_CHARACTER)
        begun = (size for stop in self._stop for size in range(1, len(stop)) if sure.endswith(stop[:size]))
        return len(text) - len(sure) + max(begun, default=0)

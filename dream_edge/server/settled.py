"""The part of a text that no later step changes, for clients that can only add to what they have shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dream_edge_runtime.reader import Reader
from dream_edge_runtime.results import MASK_SYMBOL, Generation, Step
from dream_edge_runtime.tokenizer import Tokenizer

_CUT_CHARACTER = "\ufffd"
"""What the tokens of a character decode to as long as some of its bytes are missing."""


class SettledText:
    """Follows one text; each piece it hands out comes after the piece before.

    Args:
        ends: token ids at which the text ends.
        stop: strings before which it ends.
        is_hole: whether the text is what stands in the first hole, instead of all that is new.
    """

    def __init__(self, tokenizer: Tokenizer, ends: frozenset[int], stop: Sequence[str], *, is_hole: bool) -> None:
        self._tokenizer, self._ends, self._stop, self._is_hole = tokenizer, ends, tuple(stop), is_hole
        self._handed = 0

    def advance(self, step: Step) -> str:
        """What `step` has settled since the last one."""
        place = self._place(step)
        masks = np.flatnonzero(step.masked[place.start : place.stop])
        text = self._read(step, place.start, place.start + int(masks[0]) if masks.size else place.stop)
        return self._hand(text[: len(text) - self._unsure(text)])

    def so_far(self, step: Step) -> str:
        """All of the text as it stands, masks included."""
        place = self._place(step)
        return self._read(step, place.start, place.stop)

    def finish(self, generation: Generation) -> str:
        """What is left of the finished text."""
        return self._hand(self.whole(generation))

    def whole(self, generation: Generation) -> str:
        """The finished text."""
        if not self._is_hole:
            return generation.text
        text = generation.holes[0]
        return text[: min((place for place in map(text.find, self._stop) if place >= 0), default=len(text))]

    def cells(self, step: Step) -> list[tuple[str, bool, float | None]]:
        """Every cell of the canvas: its text, whether it is masked, its probability where it is new at this step."""
        new = dict(zip(step.revealed.tolist(), step.confidence.tolist(), strict=True))
        return [
            (
                MASK_SYMBOL if step.masked[at] else self._tokenizer.decode(step.ids[at : at + 1]),
                bool(step.masked[at]),
                new.get(at),
            )
            for at in self._place(step)
        ]

    def _place(self, step: Step) -> range:
        return step.holes[0] if self._is_hole else step.shown

    def _read(self, step: Step, start: int, stop: int) -> str:
        ends = frozenset[int]() if self._is_hole else self._ends
        return Reader(self._tokenizer, start, ends, self._stop).text(step.ids[:stop], step.masked[:stop])

    def _hand(self, text: str) -> str:
        piece = text[self._handed :]
        self._handed = max(self._handed, len(text))
        return piece

    def _unsure(self, text: str) -> int:
        """How many characters at the end may yet change: half a character, or the beginning of a stop string."""
        sure = text.rstrip(_CUT_CHARACTER)
        begun = (size for stop in self._stop for size in range(1, len(stop)) if sure.endswith(stop[:size]))
        return len(text) - len(sure) + max(begun, default=0)

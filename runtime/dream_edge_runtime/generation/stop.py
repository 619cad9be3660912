"""When a sequence is done before all of its masks are revealed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas


@dataclass(frozen=True)
class EndOfText:
    """Done at the first settled token of `ends` among the `shown` positions, once everything before it is settled too.

    The text is cut there, so that nothing that comes later can show. Upstream computes on to the last mask.
    """

    ends: frozenset[int]
    shown_from: int

    def close(self, canvas: Canvas, row: int) -> None:
        """If sequence `row` is done, settle what is left of it as padding."""
        start = canvas.first[row] + self.shown_from
        masked = canvas.masked[row, start:]
        ended = np.flatnonzero(np.isin(canvas.ids[row, start:], list(self.ends)) & ~masked)
        if ended.size and not masked[: ended[0]].any():
            left = start + np.flatnonzero(masked)
            canvas.reveal(row, left, np.full(left.size, canvas.pad_id))

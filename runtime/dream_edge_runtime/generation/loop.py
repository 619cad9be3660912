"""The loop: ask the network about some masked positions, propose tokens, reveal some of them, until none is masked.

This is Dream's `diffusion_generate`, with every decision left to strategies: which token to `Draw`, which positions to
`Pace` and `Reveal`, what is computed to `Passes`, an early end to `EndOfText`. Two things differ from upstream, and
neither changes what comes out: the loop ends once nothing is masked, and a step that can reveal nothing makes no pass.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from ..arrays import FloatArray, IntArray
from ..errors import Cancelled, NonFiniteLogits
from ..inference.network import Rows
from .canvas import Canvas
from .hooks import NO_HOOKS, Hooks, LogitsHook, call_logits_hook, call_token_hook
from .logit_bias import Bias, biased
from .pace import Pace, Turn
from .passes import Passes
from .resize import Resize
from .reveal import Reveal
from .sampling import Draw, Draws
from .stop import EndOfText


@dataclass(frozen=True)
class Track:
    """What belongs to one sequence of the batch, so that none depends on its neighbours."""

    pace: Pace
    reveal: Reveal
    draws: Draws
    end: EndOfText | None = None
    biases: tuple[Bias, ...] = ()
    resize: Resize | None = None


@dataclass(frozen=True)
class Revealed:
    """What one step did to one sequence."""

    row: int
    """Which sequence of the batch."""
    positions: IntArray
    """[revealed] places in the sequence, best first."""
    probability: FloatArray
    """[revealed] of their tokens."""
    passes: int
    """How often the network was asked about this sequence."""
    counts: IntArray | None = None
    """[length before] how often each place of the sequence is there now; None = as before."""


def denoise(
    passes: Passes,
    canvas: Canvas,
    draw: Draw,
    tracks: Sequence[Track],
    vocab_size: int,
    hooks: Hooks = NO_HOOKS,
    cancel: threading.Event | None = None,
) -> Iterator[list[Revealed]]:
    """Denoise `canvas` in place, one step each time the iterator is advanced.

    Each step yields an entry for every sequence that still had masks and steps to go; `tracks` holds one for each.

    Raises:
        Cancelled: `cancel` was set; checked before every step, and by the network while it runs.
        NonFiniteLogits: weights that nobody verified, or an overflow.
    """
    if hooks.tokens:
        call_token_hook(hooks.tokens, None, canvas, vocab_size)
    for step in count():
        found = ((row, track.pace.next(canvas.masked[row])) for row, track in enumerate(tracks))
        turns = {row: turn for row, turn in found if turn is not None}
        if not turns:
            return
        if cancel is not None and cancel.is_set():
            raise Cancelled
        asked = {row: _ask(turn, tracks[row]) for row, turn in turns.items()}
        asked = {row: positions for row, positions in asked.items() if positions.size}
        revealed: dict[int, Revealed] = {}
        while asked:
            doubtful = {}
            for row, rows in passes.compute(canvas, turns, asked, draw.temperature, cancel).items():
                positions, before = asked[row], revealed.get(row) or _nothing(row)
                _check_finite(rows, positions)
                if hooks.logits:
                    rows = _hooked(rows, hooks.logits, step, canvas, row, positions, draw.temperature)
                done = _reveal(rows, canvas, row, positions, draw, turns[row], tracks[row])
                revealed[row] = replace(done, passes=before.passes + 1)
                if not rows.fresh and not done.positions.size:
                    passes.forget(row)
                    doubtful[row] = positions
            asked = doubtful
        for row in turns:
            if end := tracks[row].end:
                end.close(canvas, row)
            if tracks[row].resize:
                revealed[row] = _resized(revealed.get(row) or _nothing(row), canvas, tracks)
        if hooks.tokens:
            call_token_hook(hooks.tokens, step, canvas, vocab_size)
        yield [revealed.get(row) or _nothing(row) for row in turns]


def _ask(turn: Turn, track: Track) -> IntArray:
    """The masked positions of a sequence whose logits this step needs."""
    return turn.positions[track.reveal.ask(len(turn.positions), turn.moment, track.draws)]


def _check_finite(rows: Rows, positions: IntArray) -> None:
    finite = np.isfinite(rows.log_normalizer)
    if not finite.all():
        raise NonFiniteLogits(int(positions[finite.argmin()]))


def _hooked(
    rows: Rows, hook: LogitsHook, step: int, canvas: Canvas, row: int, positions: IntArray, temperature: float
) -> Rows:
    logits = call_logits_hook(hook, step, canvas, row, positions, rows.fetch_logits())
    return replace(Rows.from_logits(logits, temperature), fresh=rows.fresh)


def _reveal(
    rows: Rows, canvas: Canvas, row: int, positions: IntArray, draw: Draw, turn: Turn, track: Track
) -> Revealed:
    rows = biased(rows, track.biases, canvas, row, turn.moment, draw.temperature)
    proposal = draw.propose(rows, track.draws)
    chosen = track.reveal.choose(proposal, rows, positions, turn.moment, track.draws)
    settled = canvas.reveal(row, positions[chosen], proposal.tokens[chosen])
    chosen = chosen[settled]
    return Revealed(row, positions[chosen] - canvas.first[row], proposal.probability[chosen], passes=1)


def _resized(revealed: Revealed, canvas: Canvas, tracks: Sequence[Track]) -> Revealed:
    """Give the sequence the length it is to have. What this takes away, or masks again, was not revealed."""
    row, first = revealed.row, canvas.first[revealed.row]
    resize = tracks[row].resize
    counts = resize.settle(canvas, row, first + revealed.positions) if resize else None
    settled = ~canvas.masked[row, first + revealed.positions]
    places = revealed.positions
    if counts is not None:
        settled &= counts[places] > 0
        places = (np.cumsum(counts) - counts)[places]
        for track, source in zip(tracks, canvas.repeat(row, counts), strict=True):
            track.pace.follow(source)
    return Revealed(row, places[settled], revealed.probability[settled], revealed.passes, counts)


def _nothing(row: int) -> Revealed:
    return Revealed(row, np.empty(0, np.int64), np.empty(0, np.float32), passes=0)

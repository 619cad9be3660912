"""The loop: ask the network about some masked positions, propose tokens, reveal some of them, until none is masked.

This is Dream's `diffusion_generate`, with every decision left to the strategies of `Method`. Two things differ, and
neither changes what comes out: the loop ends once nothing is masked, and a step that can reveal nothing makes no pass.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from .arrays import FloatArray, IntArray
from .canvas import Canvas
from .draw import Draws
from .errors import Cancelled, NonFiniteLogits
from .hooks import NO_HOOKS, Hooks, call_logits_hook, call_token_hook
from .method import Method
from .network import Network, Rows
from .schedule import Moment


@dataclass(frozen=True)
class Revealed:
    """What one step did to one sequence."""

    row: int
    """Which sequence of the batch."""
    positions: IntArray
    """[revealed] places on the padded canvas, best first."""
    probability: FloatArray
    """[revealed] of their tokens."""
    passed: bool
    """Whether the network was asked about this sequence."""


def denoise(
    network: Network,
    canvas: Canvas,
    method: Method,
    draws: Sequence[Draws],
    hooks: Hooks = NO_HOOKS,
    cancel: threading.Event | None = None,
) -> Iterator[list[Revealed]]:
    """Denoise `canvas` in place, one step each time the iterator is advanced.

    Each step yields an entry for every sequence that still had masks. `draws` holds one source of random numbers for
    each sequence, so that none depends on its neighbours.

    Raises:
        Cancelled: `cancel` was set; checked before every step, and by the network while it runs.
        NonFiniteLogits: weights that nobody verified, or an overflow.
    """
    vocab_size = network.config.vocab_size
    if hooks.tokens:
        call_token_hook(hooks.tokens, None, canvas, vocab_size)
    for moment in method.schedule:
        unfinished = np.flatnonzero(canvas.masked.any(axis=1)).tolist()
        if not unfinished:
            return
        if cancel is not None and cancel.is_set():
            raise Cancelled
        asked = {row: _ask(canvas, row, method, moment, draws[row]) for row in unfinished}
        asking = [row for row in unfinished if asked[row].size]
        revealed = {}
        if asking:
            rows = _forward(network, canvas, asking, asked, method.draw.temperature, cancel)
            if hooks.logits:
                rows = _hooked(rows, hooks, moment, canvas, asking, asked, method.draw.temperature)
            for row, part in zip(asking, _split(rows, [asked[row].size for row in asking]), strict=True):
                revealed[row] = _reveal(part, canvas, row, asked[row], method, moment, draws[row])
        if hooks.tokens:
            call_token_hook(hooks.tokens, moment.index, canvas, vocab_size)
        yield [revealed.get(row) or _nothing(row) for row in unfinished]


def _ask(canvas: Canvas, row: int, method: Method, moment: Moment, draws: Draws) -> IntArray:
    """The masked positions of sequence `row` whose logits this step needs."""
    masked = np.flatnonzero(canvas.masked[row])
    return masked[method.reveal.ask(len(masked), moment, draws)]


def _forward(
    network: Network,
    canvas: Canvas,
    asking: list[int],
    asked: dict[int, IntArray],
    temperature: float,
    cancel: threading.Event | None,
) -> Rows:
    """One pass over the sequences `asking`, and of its logits only the rows of the positions `asked`."""
    length = canvas.ids.shape[1]
    logit_rows = [canvas.logit_rows(row, asked[row]) + index * length for index, row in enumerate(asking)]
    rows = network.forward(
        canvas.ids[asking],
        canvas.position_ids[asking],
        canvas.valid[asking],
        np.concatenate(logit_rows),
        temperature,
        cancel,
    )
    finite = np.isfinite(rows.log_normalizer)
    if not finite.all():
        raise NonFiniteLogits(int(np.concatenate([asked[row] for row in asking])[finite.argmin()]))
    return rows


def _hooked(
    rows: Rows,
    hooks: Hooks,
    moment: Moment,
    canvas: Canvas,
    asking: list[int],
    asked: dict[int, IntArray],
    temperature: float,
) -> Rows:
    assert hooks.logits
    ends = np.cumsum([asked[row].size for row in asking])[:-1]
    changed = [
        call_logits_hook(hooks.logits, moment.index, canvas, row, asked[row], logits)
        for row, logits in zip(asking, np.split(rows.fetch_logits(), ends), strict=True)
    ]
    return Rows.from_logits(np.concatenate(changed), temperature)


def _split(rows: Rows, sizes: list[int]) -> Iterator[Rows]:
    """`rows` cut into pieces of `sizes`, which fetch the full logits together, at most once."""
    if len(sizes) == 1:
        yield rows
        return
    shared = Rows(
        rows.top_logits, rows.top_ids, rows.top_probs, rows.log_normalizer, rows.neg_entropy, cache(rows.fetch_logits)
    )
    start = 0
    for size in sizes:
        yield shared.take(slice(start, start + size))
        start += size


def _reveal(
    rows: Rows, canvas: Canvas, row: int, positions: IntArray, method: Method, moment: Moment, draws: Draws
) -> Revealed:
    proposal = method.draw.propose(rows, draws)
    chosen = method.reveal.choose(proposal, positions, moment, draws)
    settled = canvas.reveal(row, positions[chosen], proposal.tokens[chosen])
    chosen = chosen[settled]
    return Revealed(row, positions[chosen], proposal.probability[chosen], passed=True)


def _nothing(row: int) -> Revealed:
    return Revealed(row, np.empty(0, np.int64), np.empty(0, np.float32), passed=False)

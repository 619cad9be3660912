"""The loop: ask the network about some masked positions, propose tokens, reveal some of them, until none is masked.

This is Dream's `diffusion_generate`, with each decision left to a strategy: a `Sampler` draws tokens, `Blocks`
and a `Reveal` choose positions, a `KvCache` decides what is computed, `EndOfText` ends a text early. Two things differ
from upstream, and neither changes what comes out: the loop ends once nothing is masked, and a step that can reveal
nothing makes no pass.
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
from .kv_cache import KvCache
from .length import EndOfText, LengthChange
from .logit_bias import LogitBias, apply_biases
from .reveal import Reveal
from .sampling import Sampler, UniformSource
from .schedule import Blocks, BlockStep


@dataclass(frozen=True)
class SequencePlan:
    """What belongs to one sequence of the batch, so that none depends on its neighbours."""

    blocks: Blocks
    reveal: Reveal
    draws: UniformSource
    end: EndOfText | None = None
    biases: tuple[LogitBias, ...] = ()
    length_change: LengthChange | None = None


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
    """[length before] how often each position of the sequence was repeated (`Canvas.repeat`); None = unchanged."""


def denoise(
    kv_cache: KvCache,
    canvas: Canvas,
    sampler: Sampler,
    plans: Sequence[SequencePlan],
    vocab_size: int,
    hooks: Hooks = NO_HOOKS,
    cancel: threading.Event | None = None,
) -> Iterator[list[Revealed]]:
    """Denoise `canvas` in place, one step each time the iterator is advanced.

    Each step yields an entry for every sequence that still had masks and steps to go; `plans` holds one for each.

    Raises:
        Cancelled: `cancel` was set; checked before every step, and by the network while it runs.
        NonFiniteLogits: weights that nobody verified, or an overflow.
    """
    if hooks.tokens:
        call_token_hook(hooks.tokens, None, canvas, vocab_size)
    for step in count():
        found = ((row, plan.blocks.next(canvas.masked[row])) for row, plan in enumerate(plans))
        block_steps = {row: block_step for row, block_step in found if block_step is not None}
        if not block_steps:
            return
        if cancel is not None and cancel.is_set():
            raise Cancelled
        asked = {row: _ask(block_step, plans[row]) for row, block_step in block_steps.items()}
        asked = {row: positions for row, positions in asked.items() if positions.size}
        revealed: dict[int, Revealed] = {}
        while asked:
            doubtful = {}
            for row, rows in kv_cache.compute(canvas, block_steps, asked, sampler.temperature, cancel).items():
                positions, before = asked[row], revealed.get(row) or _reveal_nothing(row)
                _check_finite(rows, positions)
                if hooks.logits:
                    rows = _apply_hook(rows, hooks.logits, step, canvas, row, positions, sampler.temperature)
                done = _reveal(rows, canvas, row, positions, sampler, block_steps[row], plans[row])
                revealed[row] = replace(done, passes=before.passes + 1)
                if not rows.fresh and not done.positions.size:
                    kv_cache.forget(row)
                    doubtful[row] = positions
            asked = doubtful
        for row in block_steps:
            if end := plans[row].end:
                end.close(canvas, row)
            if plans[row].length_change:
                revealed[row] = _resize(revealed.get(row) or _reveal_nothing(row), canvas, plans)
        if hooks.tokens:
            call_token_hook(hooks.tokens, step, canvas, vocab_size)
        yield [revealed.get(row) or _reveal_nothing(row) for row in block_steps]


def _ask(block_step: BlockStep, plan: SequencePlan) -> IntArray:
    """The masked positions of a sequence whose logits this step needs."""
    return block_step.positions[plan.reveal.ask(len(block_step.positions), block_step.timestep, plan.draws)]


def _check_finite(rows: Rows, positions: IntArray) -> None:
    finite = np.isfinite(rows.log_normalizer)
    if not finite.all():
        raise NonFiniteLogits(int(positions[finite.argmin()]))


def _apply_hook(
    rows: Rows, hook: LogitsHook, step: int, canvas: Canvas, row: int, positions: IntArray, temperature: float
) -> Rows:
    logits = call_logits_hook(hook, step, canvas, row, positions, rows.fetch_logits())
    return replace(Rows.from_logits(logits, temperature), fresh=rows.fresh)


def _reveal(
    rows: Rows,
    canvas: Canvas,
    row: int,
    positions: IntArray,
    sampler: Sampler,
    block_step: BlockStep,
    plan: SequencePlan,
) -> Revealed:
    rows = apply_biases(rows, plan.biases, canvas, row, block_step.timestep, sampler.temperature)
    proposal = sampler.propose(rows, plan.draws)
    chosen = plan.reveal.choose(proposal, rows, positions, block_step.timestep, plan.draws)
    settled = canvas.reveal(row, positions[chosen], proposal.tokens[chosen])
    chosen = chosen[settled]
    return Revealed(row, positions[chosen] - canvas.first[row], proposal.probability[chosen], passes=1)


def _resize(revealed: Revealed, canvas: Canvas, plans: Sequence[SequencePlan]) -> Revealed:
    """Give the sequence the length it is to have. What this takes away, or masks again, was not revealed."""
    row, first = revealed.row, canvas.first[revealed.row]
    change = plans[row].length_change
    counts = change.settle(canvas, row, first + revealed.positions) if change else None
    settled = ~canvas.masked[row, first + revealed.positions]
    places = revealed.positions
    if counts is not None:
        settled &= counts[places] > 0
        places = (np.cumsum(counts) - counts)[places]
        for plan, source in zip(plans, canvas.repeat(row, counts), strict=True):
            plan.blocks.follow(source)
    return Revealed(row, places[settled], revealed.probability[settled], revealed.passes, counts)


def _reveal_nothing(row: int) -> Revealed:
    return Revealed(row, np.empty(0, np.int64), np.empty(0, np.float32), passes=0)

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
from .constraint import LOOKED_AT, Constraint, FittingRows
from .hooks import NO_HOOKS, Hooks, LogitsHook, call_logits_hook, call_token_hook
from .kv_cache import KvCache
from .length import EndOfText, LengthChange
from .logit_bias import LogitBias, apply_biases
from .reveal import Reveal
from .sampling import Proposal, Sampler, UniformSource
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
    constraint: Constraint | None = None
    ahead: frozenset[int] | None = None
    """Tokens that are revealed in their own block alone: ends of text, since they would fix the length. None = all are;
    otherwise a pass over everything also reveals what is sure after the block."""


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
    ends_block: bool = False
    """Whether nothing is masked any more of the block that the step was about."""
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
        planned = ((row, plan.blocks.next(canvas.masked[row])) for row, plan in enumerate(plans))
        block_steps = {row: block_step for row, block_step in planned if block_step is not None}
        if not block_steps:
            return
        if cancel is not None and cancel.is_set():
            raise Cancelled
        revealed = _settle_certain(canvas, plans, block_steps)
        asked = {row: _ask(block_step, plans[row]) for row, block_step in block_steps.items()}
        asked = {
            row: _widen(kv_cache, canvas, row, block_steps[row], plans[row], asked[row])
            for row in asked
            if asked[row].size
        }
        while asked:
            doubtful = {}
            for row, rows in kv_cache.compute(canvas, block_steps, asked, sampler.temperature, cancel).items():
                positions, before = asked[row], revealed.get(row) or _reveal_nothing(row)
                check_finite(rows, positions)
                if hooks.logits:
                    rows = _apply_hook(rows, hooks.logits, step, canvas, row, positions, sampler.temperature)
                done = _reveal(rows, canvas, row, positions, sampler, block_steps[row], plans[row])
                revealed[row] = replace(_join(before, done), passes=before.passes + 1)
                if not rows.fresh and not done.positions.size:
                    kv_cache.forget(row)
                    doubtful[row] = _widen(kv_cache, canvas, row, block_steps[row], plans[row], positions)
            asked = doubtful
        ended = set()
        for row, block_step in block_steps.items():
            if end := plans[row].end:
                end.close(canvas, row)
            if not canvas.masked[row, block_step.positions].any():
                ended.add(row)
            if plans[row].length_change:
                revealed[row] = _resize(revealed.get(row) or _reveal_nothing(row), canvas, plans)
        if hooks.tokens:
            call_token_hook(hooks.tokens, step, canvas, vocab_size)
        told = [revealed.get(row) or _reveal_nothing(row) for row in block_steps]
        yield [replace(each, ends_block=each.row in ended) for each in told]


def _ask(block_step: BlockStep, plan: SequencePlan) -> IntArray:
    """The masked positions of a sequence whose logits this step needs."""
    return block_step.positions[plan.reveal.ask(len(block_step.positions), block_step.timestep, plan.draws)]


def _widen(
    kv_cache: KvCache, canvas: Canvas, row: int, block_step: BlockStep, plan: SequencePlan, positions: IntArray
) -> IntArray:
    """`positions`, and those after the block whose logits cost little more; see `SequencePlan.ahead`."""
    return positions if plan.ahead is None else kv_cache.widen(canvas, row, block_step, positions)


def _choose(proposal: Proposal, rows: Rows, positions: IntArray, block_step: BlockStep, plan: SequencePlan) -> IntArray:
    """What is revealed [chosen], of the block's positions and those after it: all that is sure, wherever it stands. A
    guess is made in the block, and only where nothing is sure."""
    timestep, draws = block_step.timestep, plan.draws
    is_ahead = positions > block_step.positions[-1]
    if not is_ahead.any():
        return plan.reveal.choose(proposal, rows, positions, timestep, draws)
    if not timestep.last:
        sure = plan.reveal.choose(proposal, replace(rows, fresh=False), positions, timestep, draws)
        early = is_ahead[sure] & np.isin(proposal.tokens[sure], list(plan.ahead or ()))
        now: IntArray = sure[~early]
        if now.size:
            return now
    mine = np.flatnonzero(~is_ahead)
    chosen: IntArray = mine[plan.reveal.choose(proposal.take(mine), rows.take(mine), positions[mine], timestep, draws)]
    return chosen


def check_finite(rows: Rows, positions: IntArray) -> None:
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
    if plan.constraint is not None:
        return _reveal_fitting(rows, canvas, row, positions, sampler, block_step, plan, plan.constraint)
    proposal = sampler.propose(rows, plan.draws)
    chosen = _choose(proposal, rows, positions, block_step, plan)
    return _settle(canvas, row, positions, proposal, chosen)


def _settle(canvas: Canvas, row: int, positions: IntArray, proposal: Proposal, chosen: IntArray) -> Revealed:
    settled = canvas.reveal(row, positions[chosen], proposal.tokens[chosen])
    chosen = chosen[settled]
    return Revealed(row, positions[chosen] - canvas.first[row], proposal.probability[chosen], passes=1)


def _reveal_fitting(
    rows: Rows,
    canvas: Canvas,
    row: int,
    positions: IntArray,
    sampler: Sampler,
    block_step: BlockStep,
    plan: SequencePlan,
    constraint: Constraint,
) -> Revealed:
    """As without a constraint, but only tokens that fit it together. A token that does not fit is drawn again: of the
    first positions, since what is sure among them depends on it, and of those that are chosen. At the last step, what
    fits by itself but not with the others is drawn again too, until nothing is left.
    """
    revealed = _reveal_nothing(row)
    while True:
        constraint.read(canvas, row)
        places = positions - canvas.first[row]
        left = FittingRows(rows, constraint, places, sampler, plan.draws)
        proposal = left.redraw(sampler.propose(rows, plan.draws), np.arange(min(len(positions), LOOKED_AT)))
        chosen = _choose(proposal, rows, positions, block_step, plan)
        while left.misfits(proposal, chosen).size:
            proposal = left.redraw(proposal, chosen)
            chosen = _choose(proposal, rows, positions, block_step, plan)
        fitting = constraint.keep_fitting(places[chosen], proposal.tokens[chosen])
        revealed = _join(revealed, _settle(canvas, row, positions, proposal, chosen[fitting]))
        if not block_step.timestep.last or fitting.all():
            return revealed
        rest = np.sort(chosen[~fitting])
        rows, positions = rows.take(rest), positions[rest]


def _settle_certain(
    canvas: Canvas, plans: Sequence[SequencePlan], block_steps: dict[int, BlockStep]
) -> dict[int, Revealed]:
    """Settle what constraints leave no choice about; what is settled leaves the steps."""
    revealed: dict[int, Revealed] = {}
    for row, block_step in block_steps.items():
        if constraint := plans[row].constraint:
            settled = constraint.settle(canvas, row)
            places, sure = settled - canvas.first[row], np.ones(len(settled), np.float32)
            revealed[row] = Revealed(row, places, sure, passes=0)
            left = block_step.positions[canvas.masked[row, block_step.positions]]
            block_steps[row] = replace(block_step, positions=left)
    return revealed


def _join(first: Revealed, second: Revealed) -> Revealed:
    places, probability = (
        np.concatenate([getattr(first, name), getattr(second, name)]) for name in ("positions", "probability")
    )
    return replace(second, positions=places, probability=probability)


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
    return Revealed(row, places[settled], revealed.probability[settled], revealed.passes, counts=counts)


def _reveal_nothing(row: int) -> Revealed:
    return Revealed(row, np.empty(0, np.int64), np.empty(0, np.float32), passes=0)

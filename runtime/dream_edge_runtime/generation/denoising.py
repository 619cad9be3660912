"""A generation under way: all of its state, from the first step to the results."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from ..arrays import IntArray
from ..constraint.token_automaton import TokenAutomaton
from ..errors import Cancelled
from ..format.model_config import ModelConfig
from ..inference.network import Network
from .canvas import Canvas, MaskedSequence
from .config import GenerationConfig
from .constraint import ConstrainedHole, Constraint
from .drafts import StandingText, settle_drafts
from .finished_blocks import FinishedBlocks
from .kv_cache import KvCache
from .length import ElasticHoles, EndOfText, OpenEnd, grow_canvas
from .loop import Revealed, SequencePlan, denoise
from .options import RunOptions
from .results import CanvasReader, Generation, Step
from .schedule import Blocks
from .strategies import (
    align_sequences,
    create_biases,
    create_cache,
    create_elastic_reveal,
    create_reveal,
    create_sampler,
    look_ahead,
    plan_blocks,
    plan_elastic_blocks,
)


@dataclass(frozen=True)
class Task:
    """One sequence to denoise, and how its text is read."""

    sequence: MaskedSequence
    reader: CanvasReader
    names_holes: bool = False
    """Whether the result tells the text of each hole."""
    most_hole_tokens: int | None = None
    """Up to how many tokens its holes may grow together; None = they keep their size."""
    most_new_tokens: int | None = None
    """Up to how many tokens its end may grow, before it is denoised, or block by block; None = it keeps its size."""
    constraints: Sequence[TokenAutomaton | None] = ()
    """What each of its holes must match; of a text after a prompt, what all of it must."""
    drafts: Sequence[StandingText | None] = ()
    """The draft that stands in each of its holes, if there is one."""


@dataclass
class _Counts:
    """What is counted for one sequence."""

    steps: int = 0
    passes: int = 0
    standing: int = 0
    history: list[IntArray] = field(default_factory=list)


class DenoisingRun:
    """Denoises a batch of tasks. Iterate over its steps, once; then ask for the `generation` of each task."""

    def __init__(
        self, network: Network, tasks: Sequence[Task], config: GenerationConfig, run_options: RunOptions
    ) -> None:
        model = network.config
        self.canvas: Canvas = Canvas(
            [task.sequence for task in tasks], model.mask_token_id, model.pad_token_id, model.shift
        )
        self.seed: int = secrets.randbits(32) if config.seed is None else config.seed
        self._plans: list[SequencePlan] = []
        self._cache: KvCache | None = None
        self._settled: list[Revealed] = []
        self._network, self._tasks, self._config, self._run_options = network, tasks, config, run_options
        self._counts = [_Counts() for _ in tasks]
        self._constraints = [constrain(self.canvas, row, task, model) for row, task in enumerate(tasks)]
        self._seconds = 0.0

    @property
    def steps(self) -> int:
        """How many steps are planned so far; known once the first is made."""
        return bool(self._settled) + max(plan.blocks.steps for plan in self._plans)

    def _begin(self) -> None:
        """Give the canvas its first length, and each sequence its plan."""
        model = self._network.config
        if model.causal_block is None:
            self._grow()
            for hole in (hole for constraint in self._constraints if constraint for hole in constraint.holes):
                hole.most = None
        self._settle_drafts()
        schedules = plan_blocks(self._config, self.canvas, model)
        self._plans = [self._plan(row, task, schedules[row]) for row, task in enumerate(self._tasks)]
        self._cache = create_cache(self._network, self._config, self.canvas, self._run_options.store)

    def _grow(self) -> None:
        most = {row: task.most_new_tokens for row, task in enumerate(self._tasks) if task.most_new_tokens is not None}
        if most:
            ends = self._tasks[next(iter(most))].reader.ends
            for row, passes in grow_canvas(self._network, self.canvas, most, ends, self._run_options.cancel).items():
                self._counts[row].passes += passes

    def _settle_drafts(self) -> None:
        offsets = align_sequences(self._config, self.canvas, self._network.config)
        for row, task in enumerate(self._tasks):
            cancel, tokenizer = self._run_options.cancel, task.reader.tokenizer
            settled = settle_drafts(self._network, self.canvas, row, task.drafts, tokenizer, offsets[row], cancel)
            if settled is not None:
                self._settled.append(settled)
                self._counts[row].standing = len(settled.positions)

    def _plan(self, row: int, task: Task, blocks: Blocks) -> SequencePlan:
        config, model = self._config, self._network.config
        draws = np.random.default_rng([self.seed, row])
        end = EndOfText(task.reader.ends, task.reader.shown_from) if config.stop_at_end else None
        if task.most_hole_tokens is None or model.expand_token_id is None:
            reveal = create_reveal(config, task.reader.ends | {model.pad_token_id})
            biases, growth = create_biases(config, model), self._plan_end(task)
            ahead = look_ahead(config, task.reader.ends | {model.pad_token_id})
            return SequencePlan(blocks, reveal, draws, end, biases, growth, self._constraints[row], ahead)
        most = task.most_hole_tokens
        elastic = ElasticHoles(model.expand_token_id, model.eos_token_id, most, budget=2 * most)
        blocks = plan_elastic_blocks(config, self.canvas, row, elastic)
        reveal = create_elastic_reveal(config, frozenset({model.expand_token_id, model.eos_token_id}))
        return SequencePlan(blocks, reveal, draws, end, create_biases(config, model, elastic), elastic)

    def _plan_end(self, task: Task) -> OpenEnd | None:
        block = self._network.config.causal_block
        if block is None or task.most_new_tokens is None:
            return None
        return OpenEnd(task.reader, task.most_new_tokens, block)

    def __iter__(self) -> Iterator[list[Revealed]]:
        """After each step, what it did to every sequence that had masks left; the first settles drafts."""
        start = time.perf_counter()
        self._begin()
        assert self._cache is not None
        self._seconds += time.perf_counter() - start
        if self._settled:
            yield self._count(self._settled)
        run_options, config = self._run_options, self._config
        changes = denoise(
            self._cache,
            self.canvas,
            create_sampler(config),
            self._plans,
            self._network.config.vocab_size,
            run_options.hooks,
            run_options.cancel,
        )
        while True:
            start = time.perf_counter()
            change = next(changes, None)
            self._seconds += time.perf_counter() - start
            if change is None:
                return
            yield self._count(change)

    def _count(self, change: list[Revealed]) -> list[Revealed]:
        for revealed in change:
            counts = self._counts[revealed.row]
            counts.steps += 1
            counts.passes += revealed.passes
            if self._run_options.history:
                counts.history.append(self.canvas.sequence(revealed.row))
        return change

    def generation(self, row: int) -> Generation:
        """The result for task `row`, once all steps are made."""
        task, counts = self._tasks[row], self._counts[row]
        holes, reader = self.canvas.holes[row], task.reader
        ids = self.canvas.sequence(row)
        nowhere = np.zeros(len(ids), dtype=bool)  # masked: what no step settled is no text
        ending = reader.ending(ids, nowhere, holes)
        kept = reader.shown_from + ending.tokens
        finished = self._cache if isinstance(self._cache, FinishedBlocks) else None
        return Generation(
            text=ending.text,
            token_ids=tuple(ids[reader.shown_from :].tolist()),
            prompt_tokens=len(ids) - sum(map(len, holes)) + counts.standing,
            new_tokens=sum(len(range(hole.start, min(hole.stop, kept))) for hole in holes) - counts.standing,
            steps=counts.steps,
            passes=counts.passes + (finished.prefills.get(row, 0) if finished else 0),
            seconds=self._seconds,
            seed=self.seed,
            finish_reason="stop" if ending.stopped else "length",
            stop_string=ending.stop_string,
            cached_tokens=finished.found.get(row, 0) if finished else 0,
            holes=tuple(reader.hole_text(ids, nowhere, *each) for each in enumerate(holes)) if task.names_holes else (),
            changes=reader.changes(ids, nowhere, holes) if reader.stood else (),
            history=tuple(counts.history) if self._run_options.history else None,
        )


def constrain(canvas: Canvas, row: int, task: Task, model: ModelConfig) -> Constraint | None:
    """What holds sequence `row` of `canvas` to what `task` must match. A match in a hole may be padded, since special
    tokens there are left out of the text; that before a fixed ending is one with it.

    Raises:
        TooLittleRoom: nothing that matches fits.
    """
    reader = task.reader
    padding = frozenset({model.eos_token_id, model.pad_token_id})
    if task.names_holes:
        found = zip(canvas.holes[row], task.constraints, strict=True) if task.constraints else ()
        holes = [ConstrainedHole(each, padding, hole.start, hole.stop) for hole, each in found if each is not None]
    else:
        ends = reader.ends | padding if reader.ends else frozenset()
        whole = [each for each in task.constraints if each is not None]
        holes = [ConstrainedHole(each, ends, reader.shown_from, most=task.most_new_tokens) for each in whole]
    if not holes:
        return None
    constraint = Constraint(holes, reader.tokenizer)
    constraint.read(canvas, row)
    for hole in holes:
        hole.check()
    return constraint


def _trace_positions(counts: IntArray) -> IntArray:
    """For each place now the place before, given `counts` [length before]; -1 where it is new."""
    before = np.repeat(np.arange(len(counts)), counts)
    before[1:][np.diff(before) == 0] = -1
    return before


class Denoising(Iterator[Step]):
    """One text being generated: an iterator over its steps, and then its `result()`.

    Closing it, also by leaving a `with` block, ends the generation: the iterator is exhausted. It belongs to one
    thread; to stop it from another, set the `cancel` event, and the iterator raises `Cancelled`.

    Attributes:
        prompt_tokens: how many tokens are given; what stands of a draft is not known yet, and not among them.
    """

    def __init__(self, run: DenoisingRun, task: Task) -> None:
        self._run, self._task = run, task
        self.prompt_tokens: int = len(task.sequence.ids) - sum(map(len, task.sequence.holes))
        self._steps = self._iterate()
        self._complete = False

    def __next__(self) -> Step:
        return next(self._steps)

    def result(self) -> Generation:
        """The finished text; makes the steps that are left.

        Raises:
            Cancelled: the generation was cancelled, or closed before its end.
        """
        for _ in self:
            pass
        if not self._complete:
            raise Cancelled
        return self._run.generation(0)

    def close(self) -> None:
        """Stop here."""
        self._steps.close()

    def __enter__(self) -> Denoising:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _iterate(self) -> Generator[Step]:
        canvas, reader = self._run.canvas, self._task.reader
        for index, (revealed,) in enumerate(self._run, 1):
            masked = canvas.sequence_masked(0)
            holes = canvas.holes[0]
            yield Step(
                index=index,
                steps=self._run.steps,
                ids=canvas.sequence(0),
                masked=masked,
                shown=range(reader.shown_from, len(masked)),
                holes=holes,
                revealed=revealed.positions,
                confidence=revealed.probability,
                progress=max(0.0, 1 - int(masked.sum()) / max(sum(map(len, holes)), 1)),
                ends_block=revealed.ends_block,
                moved=None if revealed.counts is None else _trace_positions(revealed.counts),
                _reader=reader,
            )
        self._complete = True

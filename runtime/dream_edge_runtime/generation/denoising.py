"""A generation under way: all of its state, from the first step to the results."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from ..arrays import IntArray
from ..errors import Cancelled
from ..format.model_config import ModelConfig
from ..inference.network import Network
from .canvas import Canvas, Draft
from .config import GenerationConfig
from .growth import grow
from .loop import Revealed, Track, denoise
from .options import Conduct
from .pace import Pace
from .reader import Reader
from .resize import ElasticHoles
from .results import Generation, Step
from .stop import EndOfText
from .strategies import biases_for, draw_for, elastic_pace, elastic_reveal, fitted, paces_for, passes_for, reveal_for


@dataclass(frozen=True)
class Task:
    """One sequence to denoise, and how its text is read."""

    draft: Draft
    reader: Reader
    names_holes: bool = False
    """Whether the result tells the text of each hole."""
    most_hole_tokens: int | None = None
    """Up to how many tokens its holes may grow together; None = they keep their size."""
    most_new_tokens: int | None = None
    """Up to how many tokens its end may grow before it is denoised; None = it keeps its size."""


@dataclass
class _Tally:
    """What is counted for one sequence."""

    steps: int = 0
    passes: int = 0
    history: list[IntArray] = field(default_factory=list)


class Run:
    """Denoises a batch of tasks. Iterate over its steps, once; then ask for the `generation` of each task."""

    def __init__(self, network: Network, tasks: Sequence[Task], config: GenerationConfig, conduct: Conduct) -> None:
        model = network.config
        self.canvas = Canvas([task.draft for task in tasks], model.mask_token_id, model.pad_token_id, model.shift)
        self.seed = secrets.randbits(32) if config.seed is None else config.seed
        self.steps = 0
        """How many steps are planned; known once the first is made."""
        self._network, self._tasks, self._config, self._conduct = network, tasks, config, conduct
        self._tallies = [_Tally() for _ in tasks]
        self._seconds = 0.0

    def _begin(self) -> list[Track]:
        """Give the canvas the length it is to begin with, and each sequence its way through it."""
        most = {row: task.most_new_tokens for row, task in enumerate(self._tasks) if task.most_new_tokens is not None}
        if most:
            ends = self._tasks[next(iter(most))].reader.ends
            for row, passes in grow(self._network, self.canvas, most, ends, self._conduct.cancel).items():
                self._tallies[row].passes += passes
        self._config = fitted(self._config, self.canvas)
        paces = paces_for(self._config, self.canvas)
        tracks = [
            self._track(row, task, self._config, self._network.config, paces[row])
            for row, task in enumerate(self._tasks)
        ]
        self.steps = max(track.pace.steps for track in tracks)
        return tracks

    def _track(self, row: int, task: Task, config: GenerationConfig, model: ModelConfig, pace: Pace) -> Track:
        draws = np.random.default_rng([self.seed, row])
        end = EndOfText(task.reader.ends, task.reader.shown_from) if config.stop_at_end else None
        if task.most_hole_tokens is None or model.expand_token_id is None:
            reveal = reveal_for(config, task.reader.ends | {model.pad_token_id})
            return Track(pace, reveal, draws, end, biases_for(config, model))
        most = task.most_hole_tokens
        elastic = ElasticHoles(model.expand_token_id, model.eos_token_id, most, budget=2 * most)
        pace = elastic_pace(config, self.canvas, row, elastic)
        reveal = elastic_reveal(config, frozenset({model.expand_token_id, model.eos_token_id}))
        return Track(pace, reveal, draws, end, biases_for(config, model, elastic), elastic)

    def __iter__(self) -> Iterator[list[Revealed]]:
        """After each step, what it did to every sequence that had masks left."""
        start = time.perf_counter()
        tracks = self._begin()
        self._seconds += time.perf_counter() - start
        conduct, config = self._conduct, self._config
        changes = denoise(
            passes_for(self._network, config),
            self.canvas,
            draw_for(config),
            tracks,
            self._network.config.vocab_size,
            conduct.hooks,
            conduct.cancel,
        )
        while True:
            start = time.perf_counter()
            change = next(changes, None)
            self._seconds += time.perf_counter() - start
            if change is None:
                return
            for revealed in change:
                self._count(revealed)
            yield change

    def _count(self, revealed: Revealed) -> None:
        tally = self._tallies[revealed.row]
        tally.steps += 1
        tally.passes += revealed.passes
        if self._conduct.history:
            tally.history.append(self.canvas.sequence(revealed.row))

    def generation(self, row: int) -> Generation:
        """The result for task `row`, once all steps are made."""
        task, tally = self._tasks[row], self._tallies[row]
        holes, reader = self.canvas.holes[row], task.reader
        ids = self.canvas.sequence(row)
        ending = reader.ending(ids, np.zeros(len(ids), dtype=bool), holes)  # what no step settled is no text
        kept = reader.shown_from + ending.tokens
        return Generation(
            text=ending.text,
            token_ids=tuple(ids[reader.shown_from :].tolist()),
            prompt_tokens=len(ids) - sum(map(len, holes)),
            new_tokens=sum(len(range(hole.start, min(hole.stop, kept))) for hole in holes),
            steps=tally.steps,
            passes=tally.passes,
            seconds=self._seconds,
            seed=self.seed,
            finish_reason="stop" if ending.stopped else "length",
            holes=tuple(reader.hole(ids, hole) for hole in holes) if task.names_holes else (),
            history=tuple(tally.history) if self._conduct.history else None,
        )


def _moved(counts: IntArray) -> IntArray:
    """For each place now the place before, given `counts` [length before]; -1 where it is new."""
    before = np.repeat(np.arange(len(counts)), counts)
    before[1:][np.diff(before) == 0] = -1
    return before


class Denoising(Iterator[Step]):
    """One text being generated: an iterator over its steps, and then its `result()`.

    Closing it, also by leaving a `with` block, ends the generation: the iterator is exhausted. It belongs to one
    thread; to stop it from another, set the `cancel` event, and the iterator raises `Cancelled`.
    """

    def __init__(self, run: Run, task: Task) -> None:
        self._run, self._task = run, task
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
                moved=None if revealed.counts is None else _moved(revealed.counts),
                _reader=reader,
            )
        self._complete = True

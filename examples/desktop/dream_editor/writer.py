"""The model at work: one thread that loads it and writes with it, and signals that tell the window how it goes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from PySide6.QtCore import QObject, Signal

import dream_edge

from .passage import Passage

_log = logging.getLogger(__name__)

State = Literal["masked", "fresh", "settled"]


@dataclass(frozen=True)
class Run:
    """Neighbouring tokens in the same state: still masked, revealed at this very step, or before it."""

    text: str
    state: State


Draft = Sequence[Run]
"""What one hole shows while it is written."""


@dataclass(frozen=True, eq=False)
class Job:
    """One passage to write. Set `cancel`, and the model stops within a step."""

    passage: Passage
    surprise: float
    cancel: threading.Event = field(default_factory=threading.Event)


class Writer(QObject):
    """Its methods return at once; what comes of them is told by signals, which Qt delivers in the window's thread."""

    loaded = Signal()
    stepped = Signal(object, object, float)
    """Job, a draft for each of its holes, progress from 0 to 1."""
    written = Signal(object, object)
    """Job, the texts of its holes."""
    failed = Signal(object, str)
    """Job, or None for loading; what is wrong and what to do about it."""

    def __init__(self) -> None:
        super().__init__()
        self.name = ""  # of the model that is there; none yet
        self._model: dream_edge.DreamModel | None = None
        self._thread = ThreadPoolExecutor(1, "dream-edge")  # one at a time, in the order they were asked for

    def load(self, name: str) -> None:
        self._thread.submit(self._reporting, None, lambda: self._load(name))

    def write(self, job: Job) -> None:
        self._thread.submit(self._reporting, job, lambda: self._write(job))

    def close(self) -> None:
        """Wait until the thread has ended: cancel the job first, and that is one step."""
        self._thread.shutdown(cancel_futures=True)

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _load(self, name: str) -> None:
        dream_edge.resolve_artifact(name)  # a wrong name should not cost the model that is there
        self.name, self._model = "", None  # two may not fit into memory
        self._model = dream_edge.load(name)
        self.name = name
        self.loaded.emit()

    def _write(self, job: Job) -> None:
        model = self._model
        if model is None:
            self.failed.emit(job, "There is no model: open one with Model ▸ Open.")
            return
        template = job.passage.template(model.count_tokens)
        top_p = 0.95 if job.surprise else None
        with model.stream_fill(template, temperature=job.surprise, top_p=top_p, cancel=job.cancel) as steps:
            for step in steps:
                self.stepped.emit(job, _drafts(job.passage, step), step.progress)
            holes = zip(job.passage.holes, steps.result().holes, strict=True)
        self.written.emit(job, [job.passage.fitted(hole, text) for hole, text in holes])

    def _reporting(self, job: Job | None, work: Callable[[], None]) -> None:
        """An exception would end in a future that nobody asks: the window must hear of it, whatever it is."""
        try:
            work()
        except dream_edge.Cancelled:
            _log.info("stopped")
        except dream_edge.DreamEdgeError as error:  # its text names the remedy
            self.failed.emit(job, str(error))
        except Exception as error:
            _log.exception("unexpected")
            self.failed.emit(job, f"{type(error).__name__}: {error}")


def _drafts(passage: Passage, step: dream_edge.Step) -> list[Draft]:
    """What stands in each hole after `step`."""
    fresh = set(step.revealed.tolist())

    def state(at: int) -> State:
        return "masked" if step.masked[at] else "fresh" if at in fresh else "settled"

    drafts: list[Draft] = []
    for hole, places in zip(passage.holes, step.holes, strict=True):
        draft: list[Run] = []
        for kind, run in groupby(zip(places, step.token_texts(places), strict=True), lambda each: state(each[0])):
            text = "".join(text for _, text in run)
            draft.append(Run(text if draft else passage.fitted(hole, text), kind))
        drafts.append(draft)
    return drafts

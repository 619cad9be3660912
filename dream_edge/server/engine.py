"""A few workers compute at once, their passes together; everybody else waits in a bounded queue. Between event loop and
workers nothing blocks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.generation.denoising import Denoising
from dream_edge_runtime.generation.prefix_store import PrefixStore
from dream_edge_runtime.generation.results import Generation, Step
from dream_edge_runtime.inference.joined_network import JoinedNetwork
from dream_edge_runtime.model import DreamModel

from .errors import NotLoaded, QueueFull, ShuttingDown

Event = tuple[int, Step | Generation]
"""Which of a job's texts, and a step of it or its end."""

State = Literal["loading", "ready", "failed", "closed"]
_TYPICAL_SECONDS = 5.0  # of a request, before one has been made
_MOST_UNREAD = 256  # steps of one job; each holds a canvas, and a client may read slowly or not at all
_LONGEST_WAIT = 600


@dataclass(eq=False)
class QueuedJob:
    """Texts to be denoised one after the other, and where their events go.

    `cancel` is the event that each of `texts` was made with: once it is set they stop within a step.
    """

    texts: Sequence[Denoising]
    cancel: threading.Event
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    submitted: float = field(default_factory=time.perf_counter)
    queued_seconds: float = 0.0
    _events: asyncio.Queue[Event | Exception | None] = field(default_factory=asyncio.Queue)
    _room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_MOST_UNREAD))

    def put(self, event: Event | Exception | None) -> None:
        """From a worker's thread. A step for which there is no room is left out: later ones hold all that it says."""
        if _is_step(event) and not self._room.acquire(blocking=False):
            return
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def events(self, idle_seconds: float) -> AsyncIterator[Event | None]:
        """All events to the end; None whenever nothing has happened for `idle_seconds`.

        Raises: what the worker raised.
        """
        while True:
            try:
                event = await asyncio.wait_for(self._events.get(), idle_seconds)
            except TimeoutError:
                yield None
                continue
            if event is None:
                return
            if isinstance(event, Exception):
                raise event
            if _is_step(event):
                self._room.release()
            yield event


def _is_step(event: Event | Exception | None) -> bool:
    return isinstance(event, tuple) and isinstance(event[1], Step)


class Engine:
    """Loads the model in its own thread, then makes some jobs at once, those that came first.

    Args:
        load: gives the model; called in a worker's thread.
        capacity: jobs that may wait.
        on_failure: called in a worker's thread with what `load` raised.
        parallel: jobs that are made at once.
    """

    def __init__(
        self,
        load: Callable[[], DreamModel],
        capacity: int,
        on_failure: Callable[[BaseException], None] = lambda _error: None,
        parallel: int = 1,
    ) -> None:
        self._load, self._capacity, self._on_failure, self._parallel = load, capacity, on_failure, parallel
        self._model: DreamModel | None = None
        self._waiting: deque[QueuedJob] = deque()
        self._running: set[QueuedJob] = set()
        self._changed = threading.Condition()
        self._typical = _TYPICAL_SECONDS
        self._threads: list[threading.Thread] = []
        self.state: State = "loading"

    def start(self) -> None:
        """Begin to load."""
        self._begin(self._load_and_work)

    @property
    def model(self) -> DreamModel:
        """Raises NotLoaded, ShuttingDown."""
        if self.state == "closed":
            raise ShuttingDown
        if self._model is None:
            raise NotLoaded
        return self._model

    @property
    def prefixes(self) -> PrefixStore | None:
        """What the model keeps from one text to the next; None where there is no such thing, or no model yet."""
        return None if self._model is None else self._model.prefixes

    @property
    def running(self) -> int:
        """Jobs that are being made."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def submit(self, job: QueuedJob) -> None:
        """Put `job` at the end of the queue.

        Raises: QueueFull, ShuttingDown.
        """
        with self._changed:
            if self.state == "closed":
                raise ShuttingDown
            idle = self._parallel - len(self._running) if self._model else 0  # workers about to take one
            if len(self._waiting) >= self._capacity + idle:
                rounds = 1 + len(self._waiting) // self._parallel
                seconds = min(_LONGEST_WAIT, max(1, round(self._typical * rounds)))
                raise QueueFull(len(self._waiting), seconds)
            self._waiting.append(job)
            self._changed.notify()

    def withdraw(self, job: QueuedJob) -> None:
        """Nobody wants `job` any more: it leaves the queue, or stops within a step. A finished one may be withdrawn."""
        job.cancel.set()
        with self._changed:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
        job.put(Cancelled())

    def close(self, seconds: float) -> None:
        """Refuse what is waiting, give the jobs under way `seconds` to end, then stop them. May be called again."""
        with self._changed:
            self.state = "closed"
            refused, self._waiting = [*self._waiting], deque()
            self._changed.notify_all()
        for job in refused:
            job.put(ShuttingDown())
        if self._model is None:
            return  # nothing stops the loading; the thread ends with the process
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            for job in self._running:
                job.cancel.set()
        for thread in self._threads:
            thread.join()

    # --- the workers' threads ----------------------------------------------------------------------------------------

    def _begin(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, name="dream-edge engine", daemon=True))
        self._threads[-1].start()

    def _load_and_work(self) -> None:
        try:
            model = self._load()
        except BaseException as error:  # whatever it is, the server must hear of it
            self.state = "failed"
            self._on_failure(error)
            return
        self._model = replace(model, network=JoinedNetwork(model.network))
        with self._changed:
            if self.state == "loading":
                self.state = "ready"
                for _ in range(self._parallel - 1):
                    self._begin(self._work)
        self._work()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            started = time.perf_counter()
            job.queued_seconds = started - job.submitted
            try:
                for index, text in enumerate(job.texts):
                    with text:
                        for step in text:
                            job.put((index, step))
                        job.put((index, text.result()))
                job.put(None)
                self._typical += 0.2 * (time.perf_counter() - started - self._typical)
            except Cancelled as error:
                job.put(ShuttingDown() if self.state == "closed" else error)
            except Exception as error:
                job.put(error)
            except BaseException as error:  # a panic of the tokenizer is no Exception, and the next job is waiting
                job.put(RuntimeError(type(error).__name__).with_traceback(error.__traceback__))
            with self._changed:
                self._running.remove(job)

    def _next(self) -> QueuedJob | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.state == "closed")
            if not self._waiting:
                return None
            job = self._waiting.popleft()
            self._running.add(job)
            return job

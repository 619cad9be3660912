"""A network for threads that generate at the same time: the passes they wait for are made together."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..arrays import BoolArray, IntArray
from ..errors import Cancelled
from ..format.model_config import ModelConfig
from .network import KeyValues, Network, Rows
from .together import PassRequest, forward_group, plan_passes

_PATIENCE = 0.1
"""For how long, as a part of the last pass, a pass waits for those who went through that one with it."""


@dataclass(eq=False)
class _Waiting:
    """A pass that a thread waits for."""

    request: PassRequest
    cancel: threading.Event | None
    thread: int
    outcome: Rows | BaseException | None = None


class JoinedNetwork:
    """`network`, one pass at a time: what comes while one runs goes through the next together, where that pays.

    A thread that is alone waits for nobody. Whoever waits first is served first. Each pass is made in one of the
    threads that wait. Where a pass over several fails, each is made alone, so that an error is that of one. A pass is
    stopped if all whose it is cancel; if some do, they hear of it after the pass.

    Passes over more than one sequence are not joined with others.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._waiting: list[_Waiting] = []
        self._running = False
        self._changed = threading.Condition()
        self._last: set[int] = set()
        """Which threads went through the last pass."""
        self._patience_ends = 0.0

    @property
    def config(self) -> ModelConfig:
        return self._network.config

    @property
    def keeps_keys(self) -> bool:
        return self._network.keeps_keys

    @property
    def pass_overhead(self) -> int:
        return self._network.pass_overhead

    def forward(
        self,
        input_ids: IntArray,
        position_ids: IntArray,
        attention_mask: BoolArray,
        logit_rows: IntArray,
        temperature: float,
        cancel: threading.Event | None,
        *,
        past: KeyValues | None = None,
        keep: bool = False,
    ) -> Rows:
        """See `Network.forward`."""
        if len(input_ids) > 1:
            given = (input_ids, position_ids, attention_mask, logit_rows, temperature, cancel)
            return self._network.forward(*given, past=past, keep=keep)
        request = PassRequest(
            input_ids[0], position_ids[0], attention_mask[0], logit_rows, temperature, past=past, keep=keep
        )
        own = _Waiting(request, cancel, threading.get_ident())
        with self._changed:
            self._waiting.append(own)
            self._changed.notify_all()
        while own.outcome is None:
            with self._changed:
                self._changed.wait_for(lambda: own.outcome is not None or not self._running)
                if own.outcome is not None:
                    break
                self._running = True
                self._wait_for_companions(own)
                group = self._choose()
            self._run(group)
        if isinstance(own.outcome, BaseException):
            raise own.outcome
        return own.outcome

    def _wait_for_companions(self, own: _Waiting) -> None:
        """Those who went through the last pass with `own` are about to ask for the next one."""
        if own.thread in self._last:
            patience = max(0.0, self._patience_ends - time.perf_counter())
            self._changed.wait_for(lambda: self._last <= {each.thread for each in self._waiting}, patience)

    def _choose(self) -> list[_Waiting]:
        """Take the first that waits, and those that go through a pass together with it."""
        for each in self._waiting:
            if each.cancel is not None and each.cancel.is_set():
                each.outcome = Cancelled()
        left = [each for each in self._waiting if each.outcome is None]
        groups = plan_passes(self.pass_overhead, [each.request for each in left])
        chosen = [left[index] for group in groups if 0 in group for index in group]
        self._waiting = [each for each in left if each not in chosen]
        return chosen

    def _run(self, group: Sequence[_Waiting]) -> None:
        start = time.perf_counter()
        outcomes = self._attempt(group) if group else []  # all of them may have been cancelled
        end = time.perf_counter()
        with self._changed:
            for each, outcome in zip(group, outcomes, strict=True):
                each.outcome = outcome
            self._last, self._patience_ends = {each.thread for each in group}, end + _PATIENCE * (end - start)
            self._running = False
            self._changed.notify_all()

    def _attempt(self, group: Sequence[_Waiting]) -> list[Rows | BaseException]:
        try:
            return [*forward_group(self._network, [each.request for each in group], _join_cancels(group))]
        except BaseException as error:  # also a panic is for the thread whose pass it was
            if len(group) == 1:
                return [error]
        return [outcome for each in group for outcome in self._attempt([each])]


def _join_cancels(group: Sequence[_Waiting]) -> threading.Event | None:
    """What stops a pass over `group`."""
    cancels = [each.cancel for each in group if each.cancel is not None]
    if len(cancels) < len(group):
        return None
    return cancels[0] if len(cancels) == 1 else _All(cancels)


class _All(threading.Event):
    """Set once all of `events` are."""

    def __init__(self, events: Sequence[threading.Event]) -> None:
        super().__init__()
        self._events = events

    def is_set(self) -> bool:
        return all(each.is_set() for each in self._events)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether all are, after waiting for one that is not."""
        for each in self._events:
            if not each.is_set():
                each.wait(timeout)
                break
        return self.is_set()

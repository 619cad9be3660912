"""Threads that share a network: whose passes are made together, and that nobody notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dream_edge
from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.inference import joined_network
from dream_edge_runtime.inference.joined_network import JoinedNetwork
from dream_edge_runtime.inference.network import Rows
from dream_edge_runtime.model import DreamModel
from support.block_loops import BlockNetwork, make_block_model, prompt_of
from support.networks import tiny_vocabulary
from support.remembering import RememberingNetwork

CONFIG = tiny_vocabulary()
TOKENIZER = dream_edge.load("tiny", threads=1).tokenizer
POISON, PANIC = 13, 14
"""Tokens that make a pass fail."""


class Panic(BaseException):
    """As the tokenizer's library raises."""


class Watched(RememberingNetwork):
    """Passes wait until they are let through; sizes of all are noted, and some tokens make a pass fail."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.pass_overhead = 8
        self._allowed = threading.Semaphore(0)
        self.sizes: list[tuple[int, int]] = []
        self.stopped = 0

    def allow(self, passes: int = 1000) -> None:
        self._allowed.release(passes)

    def forward(self, input_ids: IntArray, *args: Any, **keywords: Any) -> Rows:
        cancel = args[4]
        self.sizes.append((input_ids.shape[0], input_ids.shape[1]))
        while not self._allowed.acquire(timeout=0.005):
            if cancel is not None and cancel.is_set():
                self.stopped += 1
                raise Cancelled
        if (input_ids == POISON).any():
            raise ValueError("poison")
        if (input_ids == PANIC).any():
            raise Panic
        return super().forward(input_ids, *args, **keywords)


class Crowd:
    """Threads that ask for a pass each, all of them while another pass is under way."""

    def __init__(self) -> None:
        self.network = Watched()
        self.joined = JoinedNetwork(self.network)
        self.pool = ThreadPoolExecutor(40)
        self.first = self.pool.submit(self.ask, [1, 2, 3], None)
        until(lambda: self.network.sizes)

    def ask(self, ids: list[int], cancel: threading.Event | None, temperature: float = 0.0) -> Rows:
        one = np.array([ids], np.int64)
        places, mask = np.arange(len(ids))[None], np.ones((1, 1, len(ids)), np.bool_)
        return self.joined.forward(one, places, mask, np.arange(len(ids)), temperature, cancel)

    def submit(self, *asked: Any) -> list[Future[Rows]]:
        """In this order."""
        running, before = [], len(self.joined._waiting)
        for count, each in enumerate(asked, 1):
            running.append(self.pool.submit(self.ask, *each))
            until(lambda: len(self.joined._waiting) == before + count)  # noqa: B023 - called in this turn of the loop
        return running


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    try:
        yield crowd
    finally:
        crowd.network.allow()
        crowd.pool.shutdown()


def until(holds: Any) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def expected(ids: list[int]) -> list[list[int]]:
    one, places = np.array([ids], np.int64), np.arange(len(ids))[None]
    rows = RememberingNetwork(CONFIG).forward(
        one, places, np.ones((1, 1, len(ids)), np.bool_), np.arange(len(ids)), 0.0
    )
    found: list[list[int]] = rows.top_ids.tolist()
    return found


def test_those_who_come_during_a_pass_go_through_the_next_together(crowd: Crowd) -> None:
    texts = [[5, 6, 7], [8, 9], [1, 1, 1, 1], [20]]
    running = crowd.submit(*((text, None) for text in texts))
    crowd.network.allow()
    assert [each.result(5).top_ids.tolist() for each in running] == [expected(text) for text in texts]
    assert crowd.first.result(5).top_ids.tolist() == expected([1, 2, 3])
    assert crowd.network.sizes == [(1, 3), (4, 4)]


def test_long_ones_and_other_temperatures_go_alone_and_in_their_order(crowd: Crowd) -> None:
    running = crowd.submit(([4] * 60, None), ([5], None, 0.5), ([6], None))
    crowd.network.allow()
    for each in running:
        each.result(5)
    assert crowd.network.sizes == [(1, 3), (1, 60), (1, 1), (1, 1)]


def test_a_joined_pass_is_of_bounded_size(crowd: Crowd) -> None:
    texts = [[n % 12, *range(15, 34)] for n in range(30)]
    running = crowd.submit(*((text, None) for text in texts))
    crowd.network.allow()
    assert [each.result(5).top_ids.tolist() for each in running] == [expected(text) for text in texts]
    assert [rows * length for rows, length in crowd.network.sizes] == [3, 240, 240, 120]


def test_one_that_cancels_while_it_waits_does_not_stop_the_others(crowd: Crowd) -> None:
    cancels = [threading.Event() for _ in range(3)]
    stopped, *others = crowd.submit(*(([n + 1] * 4, cancel) for n, cancel in enumerate(cancels)))
    cancels[0].set()
    crowd.network.allow()
    with pytest.raises(Cancelled):
        stopped.result(5)
    assert [each.result(5).top_ids.tolist() for each in others] == [expected([2] * 4), expected([3] * 4)]
    assert crowd.network.sizes == [(1, 3), (2, 4)]


def test_a_pass_is_stopped_once_all_of_it_cancel(crowd: Crowd) -> None:
    cancels = [threading.Event() for _ in range(2)]
    running = crowd.submit(*(([n + 1] * 4, cancel) for n, cancel in enumerate(cancels)))
    crowd.network.allow(1)
    until(lambda: crowd.network.sizes == [(1, 3), (2, 4)])
    cancels[0].set()
    time.sleep(0.05)
    assert not crowd.network.stopped
    cancels[1].set()
    for each in running:
        with pytest.raises(Cancelled):
            each.result(5)
    assert crowd.network.stopped


def test_a_pass_with_one_who_cannot_cancel_is_not_stopped(crowd: Crowd) -> None:
    cancel = threading.Event()
    running = crowd.submit(([1] * 4, cancel), ([2] * 4, None))
    crowd.network.allow(1)
    until(lambda: len(crowd.network.sizes) == 2)
    cancel.set()
    time.sleep(0.05)
    crowd.network.allow()
    assert running[1].result(5).top_ids.tolist() == expected([2] * 4)
    assert not crowd.network.stopped


@pytest.mark.parametrize(("token", "kind"), [(POISON, ValueError), (PANIC, Panic)])
def test_an_error_is_that_of_one(crowd: Crowd, token: int, kind: type[BaseException]) -> None:
    running = crowd.submit(([5, 6], None), ([7, token], None), ([8, 9], None))
    crowd.network.allow()
    with pytest.raises(kind):
        running[1].result(5)
    assert [running[n].result(5).top_ids.tolist() for n in (0, 2)] == [expected([5, 6]), expected([8, 9])]
    assert crowd.ask([5], None).top_ids.tolist() == expected([5])  # and it goes on


def test_one_alone_waits_for_nobody(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_network, "_PATIENCE", 1e9)
    crowd.network.allow()
    for _ in range(3):
        crowd.pool.submit(crowd.ask, [1], None).result(5)


def test_companions_stay_together(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three texts of as many passes: once they have met, each pass is of all three."""
    monkeypatch.setattr(joined_network, "_PATIENCE", 1e9)
    model = DreamModel(crowd.joined, TOKENIZER)
    options: dict[str, Any] = {"max_new_tokens": 8, "exact": True, "steps": 8, "algorithm": "entropy"}
    running = [crowd.pool.submit(model.generate, [n, 1], **options) for n in range(3)]
    until(lambda: len(crowd.joined._waiting) == 3)
    crowd.network.allow()
    assert len([each.result(20) for each in running]) == 3
    assert set(crowd.network.sizes[1:]) == {(3, 10)}


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 24), st.integers(0, 3)), min_size=2, max_size=6),
    st.sampled_from([{"cache": "dual"}, {"cache": "prefix", "block_length": 4}, {"cache": "none"}, {"exact": True}]),
    st.booleans(),
    st.sampled_from([0, 8, 1000]),
)
def test_texts_made_at_once_are_those_made_alone(
    asked: list[tuple[int, int, int]], options: dict[str, Any], in_blocks: bool, overhead: int
) -> None:
    """Any lengths, caches and temperatures, full and block-causal attention."""
    if in_blocks:
        model, _ = make_block_model(shift=1)
        options = {}
    else:
        model = DreamModel(RememberingNetwork(CONFIG), TOKENIZER)
    network: Any = model.network
    assert isinstance(network, BlockNetwork | RememberingNetwork)
    network.pass_overhead = overhead

    def text(model: DreamModel, length: int, new: int, seed: int) -> tuple[int, ...]:
        draw: Any = {"temperature": 0.7 * (seed % 2), "seed": seed, **({"steps": new} if "cache" in options else {})}
        return model.generate(prompt_of(length, seed), max_new_tokens=new, **{**draw, **options}).token_ids

    expected = [text(model, *each) for each in asked]
    shared = DreamModel(JoinedNetwork(network), model.tokenizer)
    with ThreadPoolExecutor(len(asked)) as pool:
        assert [*pool.map(lambda each: text(shared, *each), asked)] == expected

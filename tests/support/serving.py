"""A server in a thread of this process, and a network that waits until it is told to go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np

import dream_edge
from dream_edge.server import ServerSettings, serve
from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.errors import Cancelled
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.inference.network import Network, Rows
from dream_edge_runtime.model import DreamModel


@contextmanager
def served(load: Callable[[], DreamModel] = lambda: dream_edge.load("tiny"), **settings: Any) -> Iterator[str]:
    """The address of a server of `load`, the model called "tiny"; what `load` raises is raised at the end."""
    listening, failures, found = threading.Event(), list[BaseException](), dict[str, Any]()

    def on_listening(url: str, stop: Callable[[], None]) -> None:
        found["url"], found["stop"] = url, stop
        listening.set()

    def run() -> None:
        try:
            serve(load, "tiny", ServerSettings(**{"port": 0, **settings}), "0", on_listening)
        except BaseException as error:
            failures.append(error)
            listening.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert listening.wait(20)
    try:
        yield found["url"]
    finally:
        found["stop"]()
        thread.join(20)
        assert not thread.is_alive()
        if failures:
            raise failures[0]


@contextmanager
def ready(**settings: Any) -> Iterator[str]:
    """As `served`, once the tiny model is loaded."""
    with served(**settings) as url:
        while httpx.get(f"{url}/health").status_code == 503:
            time.sleep(0.05)
        yield url


class GatedNetwork:
    """A network each of whose passes waits until `gate` is set; `passes` counts those begun."""

    def __init__(self, network: Network) -> None:
        self._network, self.gate, self.passes = network, threading.Event(), 0
        self.keeps_keys, self.pass_overhead = network.keeps_keys, network.pass_overhead
        self.entered = threading.Event()
        self.cancelled = threading.Event()

    @property
    def config(self) -> ModelConfig:
        return self._network.config

    def forward(self, *args: Any, **keywords: Any) -> Rows:
        cancel: threading.Event | None = args[5] if len(args) > 5 else keywords.get("cancel")
        self.passes += 1
        self.entered.set()
        while not self.gate.wait(0.01):
            if cancel is not None and cancel.is_set():
                self.cancelled.set()
                raise Cancelled
        return self._network.forward(*args, **keywords)


class SpoilingNetwork:
    """A network that says NaN of sequences with a certain token."""

    def __init__(self, network: Network, token: int) -> None:
        self._network, self._token = network, token
        self.keeps_keys, self.pass_overhead = network.keeps_keys, network.pass_overhead

    @property
    def config(self) -> ModelConfig:
        return self._network.config

    def forward(self, input_ids: IntArray, *args: Any, **keywords: Any) -> Rows:
        rows = self._network.forward(input_ids, *args, **keywords)
        sequence = args[2] // input_ids.shape[1]
        spoilt = (input_ids == self._token).any(axis=1)[sequence]
        return replace(rows, log_normalizer=np.where(spoilt, np.float32(np.nan), rows.log_normalizer))


def gated() -> tuple[DreamModel, GatedNetwork]:
    model = dream_edge.load("tiny", threads=1)
    network = GatedNetwork(model.network)
    return replace(model, network=network), network

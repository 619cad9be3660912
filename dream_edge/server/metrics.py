"""Counts for Prometheus. No prompt, no text, no client is in them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dream_edge_runtime.generation.results import Generation

from .engine import Engine

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """Of one server: each has a registry of its own."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "dream_edge_requests", "Requests answered.", ["route", "status"], registry=self._registry
        )
        self._prompt_tokens = Counter("dream_edge_prompt_tokens", "Tokens given.", registry=self._registry)
        self._cached_tokens = Counter(
            "dream_edge_cached_tokens",
            "Of the tokens given, those that earlier texts had computed.",
            registry=self._registry,
        )
        self._new_tokens = Counter("dream_edge_new_tokens", "Tokens generated and kept.", registry=self._registry)
        self._steps = Counter("dream_edge_steps", "Denoising steps.", registry=self._registry)
        self._passes = Counter("dream_edge_passes", "Forward passes of the network.", registry=self._registry)
        self._seconds = Histogram(
            "dream_edge_generation_seconds", "Of one text.", buckets=SECONDS, registry=self._registry
        )
        self._queued = Histogram(
            "dream_edge_queued_seconds", "That a request waited.", buckets=SECONDS, registry=self._registry
        )
        self._gone = Counter("dream_edge_disconnects", "Clients that went before the end.", registry=self._registry)
        waiting = Gauge("dream_edge_waiting", "Requests in the queue.", registry=self._registry)
        waiting.set_function(lambda: engine.waiting)
        busy = Gauge("dream_edge_busy", "Requests that are computed.", registry=self._registry)
        busy.set_function(lambda: engine.running)
        self._registry.register(_Kept(engine))

    def count_answer(self, route: str, status: int) -> None:
        self._requests.labels(route, str(status)).inc()

    def count_text(self, generation: Generation) -> None:
        self._prompt_tokens.inc(generation.prompt_tokens)
        self._cached_tokens.inc(generation.cached_tokens)
        self._new_tokens.inc(generation.new_tokens)
        self._steps.inc(generation.steps)
        self._passes.inc(generation.passes)
        self._seconds.observe(generation.seconds)

    def count_wait(self, seconds: float) -> None:
        self._queued.observe(seconds)

    def count_disconnect(self) -> None:
        self._gone.inc()

    def text(self) -> bytes:
        """In Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)


class _Kept(Collector):
    """What a block-causal model keeps of the blocks it has computed; nothing of other models."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        if self._engine.prefixes is None:
            return
        usage = self._engine.prefixes.usage
        yield GaugeMetricFamily("dream_edge_prefix_bytes", "Of keys and values kept for texts to come.", usage.nbytes)
        yield GaugeMetricFamily("dream_edge_prefix_limit_bytes", "How many may be kept.", usage.limit)
        yield GaugeMetricFamily("dream_edge_prefix_blocks", "Blocks whose keys and values are kept.", usage.blocks)
        yield CounterMetricFamily("dream_edge_prefix_evictions", "Blocks that made room for others.", usage.evicted)

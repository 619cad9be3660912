"""How fast this machine is, from a few passes of slices of networks in their true widths.

A slice has a few of a network's layers and the same part of its vocabulary, so that a pass of the whole takes as many
times as long as a pass of the slice. Its weights are noise, which takes no less time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.layout import plan_layout
from dream_edge_runtime.format.manifest import Manifest
from dream_edge_runtime.format.model_config import IDS, ModelConfig
from dream_edge_runtime.format.recipe import Recipe, Scheme, Target
from dream_edge_runtime.format.tensors import matrix_shapes
from dream_edge_runtime.inference.onnx_network import OnnxNetwork
from dream_edge_runtime.progress import Meter, OnProgress, silent

from ..benchmark.timing import time_pass

CANVAS, BLOCK = 256, 32
"""Tokens of a full pass, and of one that computes a block and remembers the others; both ask for a block's logits."""
_BUDGET = 6.0  # seconds after which no further slice is begun; the last one ends within ten on most machines
_SLICE = 50_000_000  # weights of a slice's layers at least: more than a processor's cache holds in 8 bits
_NOISE = (1 << 20) + 7  # bytes, after which it is the same again
_REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network as it would run."""

    config: ModelConfig
    scheme: Scheme
    device: Target

    @property
    def recipe(self) -> Recipe:
        return default_recipe(self.config, self.scheme, self.device)

    @property
    def layer_weights(self) -> int:
        return sum(
            outputs * inputs for name, (outputs, inputs) in matrix_shapes(self.config).items() if "layers.0." in name
        )

    def operations(self, tokens: int) -> float:
        """Products of a pass over so many tokens, of which a block's are projected onto the vocabulary."""
        config = self.config
        head = config.hidden_size * config.vocab_size
        return tokens * config.num_hidden_layers * self.layer_weights + BLOCK * head


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds that passes of a network take on this machine."""

    network: Network
    full: float
    """Over a canvas of `CANVAS` tokens."""
    cached: float
    """Over a block of `BLOCK` tokens, the keys and values of the rest of the canvas being remembered."""
    measured: bool = True
    """False: reckoned from another network's, by the number of operations."""

    def scale(self, network: Network) -> Speed:
        """What it says of another network."""
        full, cached = (network.operations(count) / self.network.operations(count) for count in (CANVAS, BLOCK))
        measured = self.measured and full == cached == 1
        return Speed(network=network, full=full * self.full, cached=cached * self.cached, measured=measured)

    def seconds(self, tokens: float) -> float:
        """Of a pass that computes so many tokens."""
        return self.cached + (tokens - BLOCK) * max(0.0, self.full - self.cached) / (CANVAS - BLOCK)


def default_recipe(config: ModelConfig, scheme: str, target: Target) -> Recipe:
    """That of an export without further options."""
    return Recipe.for_scheme(scheme, target=target, layers=config.num_hidden_layers).fit(config)


def probe(networks: Sequence[Network], *, threads: int | None = None, progress: OnProgress = silent) -> list[Speed]:
    """Time a slice of each of `networks`, the most telling first, as long as ten seconds allow.

    The first of each scheme and device is timed in any case.
    """
    found: list[Speed] = []
    start, meter = perf_counter(), Meter(progress, "probing this machine", len(networks), "networks")
    for network in networks:
        known = any((each.network.scheme, each.network.device) == (network.scheme, network.device) for each in found)
        if not known or perf_counter() - start < _BUDGET:
            found.append(time_slice(network, threads=threads))
        meter.advance()
    return found


def time_slice(network: Network, *, threads: int | None = None) -> Speed:
    """Time passes of a slice of `network`, with its weights in a temporary directory; of the whole network that is."""
    layers = min(network.config.num_hidden_layers, math.ceil(_SLICE / network.layer_weights))
    config, times = cut_slice(network.config, layers)
    part = replace(network, config=config)
    with TemporaryDirectory(prefix="dream-edge-probe-", ignore_cleanup_errors=True) as directory:
        artifact = write_noise(Path(directory), part)
        loaded = OnnxNetwork(artifact, device=network.device, threads=threads, memory_check=False, self_check=False)
        full = time_pass(loaded, CANVAS, _REPEATS, rows=BLOCK)
        cached = time_pass(loaded, CANVAS, _REPEATS, block=BLOCK)
        del loaded  # its weights are mapped, and Windows removes no mapped file
    return Speed(network=network, full=times * full, cached=times * cached)


def cut_slice(config: ModelConfig, layers: int) -> tuple[ModelConfig, float]:
    """A network of so many layers of `config` and as small a part of its vocabulary; how many make the whole one."""
    times = config.num_hidden_layers / layers
    vocabulary = max(64, round(config.vocab_size / times))
    facts = {**config.to_dict(), **dict.fromkeys(IDS, 0), "expand_token_id": None}
    return ModelConfig(**{**facts, "num_hidden_layers": layers, "vocab_size": vocabulary}), times


def write_noise(directory: Path, network: Network) -> Artifact:
    """The weights of `network` as an artifact has them, in `directory`, and nothing else of an artifact."""
    recipe, noise = network.recipe, np.random.default_rng(0).integers(0, 256, _NOISE, np.uint8)
    for number, place in enumerate(plan_layout(network.config, recipe).places):
        dtype = np.dtype(place.spec.dtype)
        if dtype.kind == "f":
            data = np.full(place.size // dtype.itemsize, 0.01, dtype)
        else:  # each its own: of equal matrices ONNX Runtime keeps one, which would stay in the processor's cache
            data = np.resize(np.roll(noise, number), place.size)
        with (directory / place.shard).open("ab") as file:
            file.truncate(place.offset)
            file.write(data.data)
    manifest = Manifest(
        producer="", files=(), graphs={network.device: "model.onnx"}, config=network.config, recipe=recipe
    )
    return Artifact(directory, manifest)

"""Measure how other formats of some matrices change the predictions, one layer of the network in memory at a time.

A variant is the full-precision network but for the matrices it names. Until its first such matrix it computes what the
clean network computes, so it starts there, from the clean network's hidden states. Variants that start at one layer
make a wave, for which the layers from there on are read once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dream_edge_runtime.arrays import IntArray
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import WeightFormat
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, layer_matrices, layer_name, matrix_shapes, weight_of

from ..checkpoint.checkpoint import Checkpoint
from ..reference.layerwise import TOKENS_AT_ONCE, Batch, embed, load_layer, make_batches, normalize
from ..reference.model import Layer
from .grid import round_weights
from .simulated import SimulatedLinear, round_matrix

Variant = Mapping[str, WeightFormat]
"""The matrices that are stored otherwise, by name, and how; all others are exact. The embedding may be lm_head too."""

OnPasses = Callable[[float], None]
"""Called with how many of `SensitivityPlan.passes` are done."""

STATES_BYTES = 750 << 20
"""Hidden states of the variants of one wave, at most (but one variant is always computed)."""

_SAMPLE = layer_matrices(0)[0]
_LOGITS_AT_ONCE = 1 << 22
_LIBRARIES = 450 << 20


@dataclass(frozen=True)
class MaskedSequence:
    """A sequence, and the rows whose predictions count.

    Attributes:
        ids: int64 [length].
        rows: int64 [rows] of the network's output: with the shift, one before the masked positions.
    """

    ids: IntArray
    rows: IntArray


@dataclass(frozen=True)
class SensitivityPlan:
    """The variants, what they are tried on, and what that takes; known before anything is computed."""

    checkpoint: Checkpoint
    sequences: Sequence[MaskedSequence]
    variants: Sequence[Variant]
    states_bytes: int = STATES_BYTES

    @cached_property
    def layers(self) -> int:
        return self.checkpoint.config.num_hidden_layers

    @cached_property
    def batches(self) -> list[Batch]:
        return make_batches([each.ids for each in self.sequences], self.checkpoint.config, pad=True)

    @cached_property
    def state_bytes(self) -> int:
        """Hidden states of one variant."""
        return 4 * self.checkpoint.config.hidden_size * sum(batch.tokens for batch in self.batches)

    @cached_property
    def waves(self) -> list[tuple[int, list[int]]]:
        """The layer at which each wave starts (the number of layers: at lm_head), and the indices of its variants."""
        size = max(1, self.states_bytes // self.state_bytes)
        starts = [min((_layer_of(name, self.layers) for name in each), default=self.layers) for each in self.variants]
        waves = []
        for layer in range(self.layers + 1):
            born = [index for index, start in enumerate(starts) if start == layer]
            waves += [(layer, born[first : first + size]) for first in range(0, len(born), size)]
        return waves

    @cached_property
    def layer_share(self) -> float:
        """The share of one layer in a pass through the network."""
        layer = count_layer_weights(self.checkpoint.config) * sum(len(each.ids) for each in self.sequences)
        rows, columns = matrix_shapes(self.checkpoint.config)[LM_HEAD]
        head = rows * columns * sum(len(each.rows) for each in self.sequences)
        return layer / (layer * self.layers + head)

    @property
    def head_share(self) -> float:
        """The share of lm_head in a pass."""
        return 1 - self.layers * self.layer_share

    @property
    def passes(self) -> float:
        """The work, in passes of the network over all sequences: two at most for the clean one, and the variants'."""
        clean = 1 + self.layer_share * max((layer for layer, _ in self.waves if layer < self.layers), default=0)
        return clean + sum(
            len(wave) * (self.layer_share * (self.layers - layer) + self.head_share) for layer, wave in self.waves
        )

    def seconds(self) -> float:
        """A rough guess, from the first layer read, applied and rounded in part here and now."""
        batch = max(self.batches, key=lambda each: each.tokens)
        state = torch.zeros(1, *batch.ids.shape, self.checkpoint.config.hidden_size)
        start = time.perf_counter()
        layer = load_layer(self.checkpoint, 0)
        read = time.perf_counter() - start
        times = []
        with torch.inference_mode():
            for _ in range(2):  # the first time wakes threads and fills caches
                start = time.perf_counter()
                _apply(batch, layer, state, [0])
                times.append(time.perf_counter() - start)
        computed = min(times) * self.state_bytes / state.nbytes / self.layer_share * self.passes
        return computed + self._rounding_seconds() + read * sum(self.layers - start for start, _ in self.waves)

    def _rounding_seconds(self) -> float:
        """A guess for all matrices of all variants, from some rows of one."""
        shapes = matrix_shapes(self.checkpoint.config)
        rows = self.checkpoint.rows(weight_of(_SAMPLE), 0, min(256, shapes[_SAMPLE][0]))
        weights: Counter[WeightFormat] = Counter()
        for variant in self.variants:
            for name, format_ in variant.items():
                if name != EMBEDDING:
                    weights[format_] += shapes[name][0] * shapes[name][1]
        seconds = 0.0
        for format_, count in weights.items():
            start = time.perf_counter()
            round_matrix(rows, format_)
            seconds += (time.perf_counter() - start) * count / rows.numel()
        return seconds

    @property
    def memory(self) -> int:
        """The most that is going to be resident, libraries included."""
        config, tokens = self.checkpoint.config, max(TOKENS_AT_ONCE, *(len(each.ids) for each in self.sequences))
        shapes, layer = matrix_shapes(config), 4 * count_layer_weights(config)
        replaced = 0
        for variant in self.variants:
            for index in range(self.layers):
                names = [name for name in variant if _layer_of(name, self.layers) == index and name != EMBEDDING]
                replaced = max(replaced, sum(4 * shapes[name][0] * shapes[name][1] for name in names))
        activations = 4 * tokens * (3 * config.intermediate_size + 6 * config.hidden_size)
        states = self.state_bytes * (3 + max((len(wave) for _, wave in self.waves), default=0))
        return _LIBRARIES + layer + replaced + activations + states


def measure_divergences(
    plan: SensitivityPlan, progress: OnPasses = lambda _: None
) -> Iterator[list[tuple[int, list[NDArray[np.float64]]]]]:
    """For each wave the index of each of its variants and KL(clean ‖ variant) in nats: for each sequence [rows].

    Raises: CheckpointError for a tensor that cannot be read.
    """
    passes = _Passes(plan, progress)
    clean = passes.embed({})
    final = passes.run_layers([state.clone() for state in clean], 0, plan.layers, [{}])
    target = passes.read_rows(final)[0]
    passes.report(plan.head_share)
    at = 0
    for start, wave in plan.waves:
        clean, at = passes.run_layers(clean, at, start, [{}]) if start < plan.layers else final, start
        variants = [plan.variants[index] for index in wave]
        states = passes.run_layers(passes.start(clean, variants), start, plan.layers, variants)
        found = passes.measure_divergences(target, passes.read_rows(states), variants)
        passes.report(plan.head_share * len(wave))
        yield list(zip(wave, found, strict=True))


# --- the network, layer by layer -------------------------------------------------------------------------------------

States = list[Tensor]
"""Hidden states fp32 [variants, sequences, length, hidden] of each batch."""


class _Passes:
    """Passes of the network over all sequences, one layer in memory at a time."""

    def __init__(self, plan: SensitivityPlan, progress: OnPasses) -> None:
        self._plan, self._checkpoint, self._config = plan, plan.checkpoint, plan.checkpoint.config
        self._batches = plan.batches
        self._progress, self._done = progress, 0.0

    def report(self, passes: float) -> None:
        self._done += passes
        self._progress(self._done)

    def embed(self, variant: Variant) -> States:
        rows = [embed(self._checkpoint, batch.ids) for batch in self._batches]
        if EMBEDDING in variant:
            rows = [round_weights(each.flatten(0, 1), variant[EMBEDDING]).view_as(each) for each in rows]
        return [each[None] for each in rows]

    def start(self, clean: States, variants: Sequence[Variant]) -> States:
        """The states from which each of `variants` begins."""
        parts = [self.embed(variant) if EMBEDDING in variant else clean for variant in variants]
        return [torch.cat(states) for states in zip(*parts, strict=True)]

    @torch.inference_mode()
    def run_layers(self, states: States, start: int, stop: int, variants: Sequence[Variant]) -> States:
        """`states`, changed in place into those after layers `start` to `stop`."""
        for index in range(start, stop):
            layer = load_layer(self._checkpoint, index)
            for change, members in _group_by_change(index, variants):
                with _replace_products(layer, change):
                    for state, batch in zip(states, self._batches, strict=True):
                        _apply(batch, layer, state, members)
                self.report(self._plan.layer_share * len(members))
        return states

    @torch.inference_mode()
    def read_rows(self, states: States) -> Tensor:
        """The rows that count, normalised: fp32 [variants, all rows, hidden], sequence by sequence."""
        rows: dict[int, Tensor] = {}
        for state, batch in zip(states, self._batches, strict=True):
            for place, index in enumerate(batch.members):
                rows[index] = state[:, place, torch.from_numpy(self._plan.sequences[index].rows)]
        found = torch.cat([rows[index] for index in range(len(rows))], dim=1)
        return normalize(self._checkpoint, found)

    @torch.inference_mode()
    def measure_divergences(
        self, target: Tensor, asked: Tensor, variants: Sequence[Variant]
    ) -> list[list[NDArray[np.float64]]]:
        """KL of each variant's rows from those of `target` [all rows, hidden], by sequence.

        The vocabulary is gone through in strips. With running normalizers Z, KL(p ‖ q) = Σ p (x - y) - log Zx + log Zy
        of the logits x and y, in float64.
        """
        count, vocabulary = len(target), self._config.vocab_size
        normalizer = torch.full((count,), -torch.inf, dtype=torch.float64)
        others = torch.full((len(variants), count), -torch.inf, dtype=torch.float64)
        gaps = torch.zeros(len(variants), count, dtype=torch.float64)
        size = max(256, _LOGITS_AT_ONCE // count // 256 * 256)
        shared = EMBEDDING if self._config.tie_word_embeddings else LM_HEAD
        heads = [variant.get(LM_HEAD, variant.get(shared)) for variant in variants]
        for first in range(0, vocabulary, size):
            strip = self._checkpoint.rows(weight_of(LM_HEAD), first, min(first + size, vocabulary)).float()
            products = {format_: SimulatedLinear(strip, format_) for format_ in heads if format_}
            logits = F.linear(target, strip).double()
            grown = torch.logaddexp(normalizer, logits.logsumexp(dim=1))
            gaps *= (normalizer - grown).exp()
            shares = (logits - grown[:, None]).exp()
            normalizer = grown
            for index, head in enumerate(heads):
                rows = asked[index]
                product = products[head](rows) if head else F.linear(rows, strip)
                changed = product.double()
                others[index] = torch.logaddexp(others[index], changed.logsumexp(dim=1))
                gaps[index] += (shares * (logits - changed)).sum(dim=1)
        found = (gaps - normalizer + others).clamp(min=0).numpy()
        ends = np.cumsum([len(each.rows) for each in self._plan.sequences])
        return [np.split(row, ends[:-1]) for row in found]


def _apply(batch: Batch, layer: Layer, state: Tensor, members: list[int]) -> None:
    """Replace the states [variants, sequences, length, hidden] of `members` by what `layer` makes of them."""
    sequences = len(batch.ids)
    mask = batch.mask.expand(sequences, -1, -1, -1)
    at_once = max(1, TOKENS_AT_ONCE // batch.tokens)
    for first in range(0, len(members), at_once):
        chosen = members[first : first + at_once]
        hidden = layer(state[chosen].flatten(0, 1), batch.angles, mask.repeat(len(chosen), 1, 1, 1))
        state[chosen] = hidden.unflatten(0, (len(chosen), sequences))


def count_layer_weights(config: ModelConfig) -> int:
    """Weights of the matrices of one layer."""
    shapes = matrix_shapes(config)
    return sum(shapes[name][0] * shapes[name][1] for name in layer_matrices(0))


@contextmanager
def _replace_products(layer: Layer, change: Variant) -> Iterator[None]:
    """Give `layer` other products within the block, by their names in it."""
    before = {name: layer.get_submodule(name) for name in change}
    for name, format_ in change.items():
        exact = before[name]
        assert isinstance(exact, nn.Linear)
        layer.set_submodule(name, SimulatedLinear(exact.weight, format_, exact.bias))
    try:
        yield
    finally:
        for name, module in before.items():
            layer.set_submodule(name, module)


def _group_by_change(index: int, variants: Sequence[Variant]) -> list[tuple[Variant, list[int]]]:
    """The changes of layer `index`, and the variants that want each."""
    prefix = f"{layer_name(index)}."
    found: dict[frozenset[tuple[str, WeightFormat]], list[int]] = {}
    for number, variant in enumerate(variants):
        change = {name.removeprefix(prefix): each for name, each in variant.items() if name.startswith(prefix)}
        found.setdefault(frozenset(change.items()), []).append(number)
    return [(dict(change), members) for change, members in found.items()]


def _layer_of(name: str, last: int) -> int:
    """The layer at which matrix `name` is met; `last` for lm_head."""
    return 0 if name == EMBEDDING else last if name == LM_HEAD else int(name.split(".")[2])

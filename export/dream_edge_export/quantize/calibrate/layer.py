"""Choose the numbers of one layer, from the states that reach it in the original and in the quantized network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import Formats, WeightFormat
from dream_edge_runtime.format.tensors import READERS

from ...reference.layerwise import Batch, HiddenStates
from ...reference.model import Layer
from ..grid import Arrays, Grid
from .costs import count_rounding_work, count_work_per_token
from .folding import (
    Activity,
    choose_strength,
    find_scales,
    fold_into_norm,
    fold_into_up,
    fold_into_value,
    group_by_value,
    repeat_for_queries,
)
from .gptq import Feedback, Moments

Advance = Callable[[float], None]
"""Called with what was done since the last call, in multiply-adds."""


@dataclass(frozen=True)
class Streams:
    """The hidden states of the original network and of the one quantized so far, at one place between layers."""

    original: HiddenStates
    quantized: HiddenStates

    @classmethod
    def at(cls, directory: Path, place: str, width: int) -> Streams:
        return cls(*(HiddenStates(directory / f"{place}.{network}", width) for network in ("original", "quantized")))

    def __iter__(self) -> Iterator[HiddenStates]:
        return iter((self.original, self.quantized))


@dataclass
class Chosen:
    """What the artifact stores of a layer, by the tensors' names within it: matrices as arrays, vectors in fp32.

    `largest`: the largest magnitudes of silu(gate) · up and of down_proj's product that the quantized layer computed.
    """

    matrices: dict[str, Arrays] = field(default_factory=dict)
    vectors: dict[str, Tensor] = field(default_factory=dict)
    largest: Tensor = field(default_factory=lambda: torch.zeros(2))


class LayerCalibration:
    """One layer on its way from original to quantized weights. `run` does everything, once.

    The matrices are chosen in the order in which data meets them, each group of them with inputs that the quantized
    network computes, since those are what it will be multiplied with; and so that its product comes near the original
    network's, whose inputs differ.
    """

    def __init__(
        self,
        layer: Layer,
        name: str,
        config: ModelConfig,
        formats: Formats,
        batches: Sequence[Batch],
        directory: Path,
        advance: Advance,
    ) -> None:
        self._original, self._name, self._config, self._formats = layer, name, config, formats
        self._batches, self._advance = batches, advance
        self._attended = Streams.at(directory, "attended", config.query_size)
        self._middle = Streams.at(directory, "middle", config.hidden_size)
        self._per_token = count_work_per_token(config)
        self._activity = {stage: Activity() for stage in READERS}
        self._chosen = Chosen()

    def run(self, before: Streams, after: Streams) -> Chosen:
        """Read the states of `before`, write those of `after`."""
        self._observe(before.original, after.original)
        self._fold()
        # a network of its own, whose weights are still the same tensors
        shared: dict[int, object] = {id(weight): weight for weight in self._original.parameters()}
        self._quantized: Layer = copy.deepcopy(self._original, shared)
        self._attention(before)
        del self._original.self_attn
        self._mlp(after.quantized)
        return self._chosen

    def _observe(self, before: HiddenStates, after: HiddenStates) -> None:
        """Take the original stream through the layer."""
        layer, seen = self._original, self._activity
        for batch in self._batches:
            hidden = before.read(batch)
            normed = layer.input_layernorm(hidden)
            attended = layer.self_attn.attend(normed, batch.angles, batch.mask)
            middle = hidden + layer.self_attn.o_proj(attended)
            seen["qkv"].see(normed)
            seen["o"].see(attended)
            normed = layer.post_attention_layernorm(middle)
            activated = layer.mlp.activate(normed)
            seen["gate_up"].see(normed)
            seen["down"].see(activated)
            self._middle.original.append(batch, middle)
            after.append(batch, middle + layer.mlp.down_proj(activated))
            self._advance(batch.tokens * self._per_token["observe"])

    def _fold(self) -> None:
        layer, seen, attention, mlp = self._original, self._activity, self._original.self_attn, self._original.mlp
        scales = find_scales(*group_by_value(seen["o"].largest, attention), self._strength("o"))
        fold_into_value(attention, scales)
        seen["o"] = seen["o"].divide(repeat_for_queries(scales, attention))

        scales = find_scales(seen["down"].largest, [mlp.down_proj.weight], self._strength("down"))
        fold_into_up(mlp, scales)
        seen["down"] = seen["down"].divide(scales)

        readers = [attention.q_proj, attention.k_proj, attention.v_proj]
        scales = find_scales(seen["qkv"].largest, [reader.weight for reader in readers], self._strength("qkv"))
        fold_into_norm(layer.input_layernorm, readers, scales)
        seen["qkv"] = seen["qkv"].divide(scales)

        readers = [mlp.gate_proj, mlp.up_proj]
        scales = find_scales(seen["gate_up"].largest, [reader.weight for reader in readers], self._strength("gate_up"))
        fold_into_norm(layer.post_attention_layernorm, readers, scales)
        seen["gate_up"] = seen["gate_up"].divide(scales)

        for name, weight in layer.named_parameters():
            if weight.ndim == 1:
                self._chosen.vectors[name] = weight

    def _attention(self, before: Streams) -> None:
        original, quantized = self._original, self._quantized

        def normed() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in self._batches:
                theirs, ours = (states.read(batch) for states in before)
                yield original.input_layernorm(theirs), quantized.input_layernorm(ours)

        self._choose("qkv", normed())

        def attended() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in self._batches:
                theirs, ours = (states.read(batch) for states in before)
                attended = quantized.self_attn.attend(quantized.input_layernorm(ours), batch.angles, batch.mask)
                self._attended.quantized.append(batch, attended)
                yield (
                    original.self_attn.attend(original.input_layernorm(theirs), batch.angles, batch.mask),
                    attended,
                )

        self._choose("o", attended())
        for batch in self._batches:
            product = quantized.self_attn.o_proj(self._attended.quantized.read(batch))
            self._middle.quantized.append(batch, before.quantized.read(batch) + product)

    def _mlp(self, after: HiddenStates) -> None:
        original, quantized = self._original, self._quantized

        def normed() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in self._batches:
                theirs, ours = (states.read(batch) for states in self._middle)
                yield original.post_attention_layernorm(theirs), quantized.post_attention_layernorm(ours)

        def activated() -> Iterator[tuple[Tensor, Tensor]]:
            for theirs, ours in normed():
                yield original.mlp.activate(theirs), quantized.mlp.activate(ours)
            del original.mlp.gate_proj, original.mlp.up_proj  # before the largest moments are factored

        self._choose("gate_up", normed())
        self._choose("down", activated())
        for batch in self._batches:
            middle = self._middle.quantized.read(batch)
            activated_ = quantized.mlp.activate(quantized.post_attention_layernorm(middle))
            product = quantized.mlp.down_proj(activated_)
            seen = torch.stack([activated_.abs().max(), product.abs().max()])
            self._chosen.largest = torch.maximum(self._chosen.largest, seen)
            after.append(batch, middle + product)

    def _choose(self, stage: str, inputs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Round the readers of `inputs`: those of the original and of the quantized network."""
        readers = READERS[stage]
        modules = [self._original.get_submodule(reader) for reader in readers]
        weights = [module.weight for module in modules if isinstance(module, nn.Linear)]
        order = torch.argsort(self._activity[stage].squares, stable=True)
        alone = weights[0] if len(weights) == 1 else None  # then its product drifts, which has fewer channels
        moments = Moments(order, len(order) if alone is None else len(alone))
        for theirs, ours in inputs:
            missing = (theirs - ours).flatten(0, 1)
            moments.see(ours.flatten(0, 1), missing if alone is None else missing @ alone.T)
            self._advance(len(missing) * self._per_token[stage])
        feedback = Feedback.of(moments)
        drift = moments.drift
        del moments
        self._advance(count_rounding_work(self._config)[stage])
        for reader, weight in zip(readers, weights, strict=True):
            shift = drift if alone is not None else weight @ drift
            self._set(reader, feedback, feedback.shift(weight, shift))

    def _set(self, reader: str, feedback: Feedback, wanted: Tensor) -> None:
        grid = Grid.of(wanted, self._format(reader))
        codes = feedback.round(wanted, grid)
        whole = codes.to(torch.int8 if grid.weights.kind == "row" else torch.uint8)
        self._chosen.matrices[reader] = grid.encode(whole)
        module = self._quantized.get_submodule(reader)
        module.weight = nn.Parameter(grid.dequantize(whole), requires_grad=False)

    def _format(self, reader: str) -> WeightFormat:
        return self._formats.of(f"{self._name}.{reader}")

    def _strength(self, stage: str) -> float:
        return choose_strength(*map(self._format, READERS[stage]))

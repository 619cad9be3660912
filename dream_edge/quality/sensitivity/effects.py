"""Which matrices matter: what storing each of them otherwise, and nothing else, does to the predictions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dream_edge_runtime.errors import DreamEdgeError, InvalidOption
from dream_edge_runtime.files.json import parse_json_object
from dream_edge_runtime.files.writing import replace_file
from dream_edge_runtime.format.model_config import ModelConfig
from dream_edge_runtime.format.recipe import BLOCK_SIZES, HALF, ROW, TABLE, WeightFormat
from dream_edge_runtime.format.tensors import EMBEDDING, LM_HEAD, layer_matrices, stored_shapes

from ..errors import MeasurementsUnfit

SCHEMA = 1
COLUMNS = ("q", "k", "v", "o", "gate", "up", "down", "layer")

_NAME = re.compile(r"(int4|int8|nf4)-(\d+)")
_WITHOUT_GROUPS = {"int8": ROW, "int8-table": TABLE, "fp16": HALF}


@dataclass(frozen=True)
class Effect:
    """KL(reference ‖ changed) over all masked positions in nats a position, and its standard error.

    Attributes:
        change: the name of the new format of every matrix that is not exact.
    """

    change: Mapping[str, str]
    kl_mean: float
    kl_mean_se: float


@dataclass(frozen=True)
class Together:
    """Several matrices changed at once.

    Attributes:
        effect: what was measured.
        sum: of what was measured for each of them alone.
    """

    effect: Effect
    sum: float

    @property
    def ratio(self) -> float:
        """Measured over sum: 1 where losses add up."""
        return self.effect.kl_mean / self.sum if self.sum else 1.0


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """What rounding one matrix alone costs: KL in nats [layers][columns]; None where it was not measured."""

    format: str
    columns: Sequence[str]
    rows: Sequence[Sequence[float | None]]


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What was measured of one checkpoint on one set of masked sequences.

    Attributes:
        model, passages: digests that identify the checkpoint and the masked sequences.
        checkpoint: name of its directory.
        effects: of single matrices, of the seven of a layer, and of many at once.
    """

    model: str
    passages: str
    checkpoint: str
    layers: int
    sequences: int
    positions: int
    seed: int
    effects: tuple[Effect, ...] = ()

    @property
    def formats(self) -> list[str]:
        """The names of the formats that single matrices of the layers were tried in, in that order."""
        single = [next(iter(each.change.items())) for each in self.effects if len(each.change) == 1]
        return list(dict.fromkeys(format_ for name, format_ in single if name not in (EMBEDDING, LM_HEAD)))

    def single(self, matrix: str, format_: str) -> Effect | None:
        """That of one matrix in one format; None if it was not measured."""
        return self._found().get(frozenset({(matrix, format_)}))

    def layer(self, index: int, format_: str) -> Effect | None:
        """All matrices of layer `index` in one format."""
        return self._found().get(frozenset(dict.fromkeys(layer_matrices(index), format_).items()))

    def additivity(self) -> list[Together]:
        """Every effect of several matrices whose single effects are known, beside their sum."""
        found = []
        for effect in self.effects:
            parts = [self.single(*item) for item in effect.change.items()]
            known = [part.kl_mean for part in parts if part is not None]
            if len(parts) > 1 and len(known) == len(parts):
                found.append(Together(effect, sum(known)))
        return found

    def heat_maps(self) -> tuple[HeatMap, ...]:
        """One map for each format that was tried, of every matrix of a layer and the whole layer."""
        return tuple(
            HeatMap(format=each, columns=COLUMNS, rows=[self._row(index, each) for index in range(self.layers)])
            for each in self.formats
        )

    def _row(self, index: int, format_: str) -> list[float | None]:
        effects = [*(self.single(name, format_) for name in layer_matrices(index)), self.layer(index, format_)]
        return [None if effect is None else effect.kl_mean for effect in effects]

    def losses(self, config: ModelConfig, path: Path) -> dict[str, dict[WeightFormat, float]]:
        """The loss of every matrix by format. Raises MeasurementsUnfit, naming `path`, where one was not measured."""
        losses: dict[str, dict[WeightFormat, float]] = {name: {} for name in stored_shapes(config)}
        for effect in self.effects:
            if len(effect.change) == 1:
                ((name, format_),) = effect.change.items()
                if name not in losses:
                    raise MeasurementsUnfit(path, f"{name} is not a matrix of this checkpoint")
                losses[name][parse_format(format_)] = effect.kl_mean
        missing = [name for name, measured in losses.items() if not measured]
        if missing:
            raise MeasurementsUnfit(path, f"{len(missing)} matrices were not measured, first {missing[0]}")
        return losses

    def _found(self) -> dict[frozenset[tuple[str, str]], Effect]:
        return {frozenset(effect.change.items()): effect for effect in self.effects}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def _from_dict(cls, values: dict[str, Any]) -> Sensitivity:
        if (schema := values.pop("schema")) != SCHEMA:
            raise ValueError(f"schema {schema!r} is not {SCHEMA}")
        effects = []
        for entry in values.pop("effects"):
            effect = Effect(dict(entry["change"]), float(entry["kl_mean"]), float(entry["kl_mean_se"]))
            for format_ in effect.change.values():
                parse_format(format_)
            if not effect.change or not np.isfinite([effect.kl_mean, effect.kl_mean_se]).all():
                raise ValueError("an effect is empty or not finite")
            effects.append(effect)
        return cls(**values, effects=tuple(effects))

    @classmethod
    def read(cls, path: Path) -> Sensitivity:
        """Raises MeasurementsUnfit."""
        try:
            return cls._from_dict(parse_json_object(path.read_bytes()))
        except OSError as error:
            raise MeasurementsUnfit(path, f"cannot be read ({error.strerror})") from None
        except (DreamEdgeError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise MeasurementsUnfit(path, f"it is not a file of sensitivities ({error})") from None

    def write(self, path: Path) -> None:
        """Put in place whole. Raises NotWritable."""
        with replace_file(path) as file:
            file.write(json.dumps(self.to_dict(), indent=1).encode() + b"\n")


def list_changes(
    config: ModelConfig, formats: Sequence[WeightFormat], *, subsets: int, seed: int
) -> list[dict[str, WeightFormat]]:
    """List what is measured: every matrix, every layer and all matrices in each of `formats`, and random subsets.

    The embedding, which is looked up, is tried in 8-bit groups only; lm_head also with one scale an output, as the
    schemes have it, and both in that alone where they are one matrix. A random subset takes each matrix with a
    probability of its own, in a random format.
    """
    lookup = TABLE if config.tie_word_embeddings else parse_format("int8-128")
    products = [name for name in stored_shapes(config) if name != EMBEDDING]
    found: list[dict[str, WeightFormat]] = [{EMBEDDING: lookup}]
    for format_ in formats:
        found += [{name: format_} for name in products]
        found += [dict.fromkeys(layer_matrices(index), format_) for index in range(config.num_hidden_layers)]
        found.append(dict.fromkeys(products, format_))
    if ROW not in formats and not config.tie_word_embeddings:
        found.append({LM_HEAD: ROW})
    rng = np.random.default_rng(seed)
    for _ in range(subsets):
        share = rng.random()
        chosen = [name for name in products if rng.random() < share]
        if len(chosen) > 1:
            found.append({name: formats[int(rng.integers(len(formats)))] for name in chosen})
    return found


def name_formats(change: Mapping[str, WeightFormat]) -> dict[str, str]:
    """`change` with the names of its formats."""
    return {name: format_name(format_) for name, format_ in change.items()}


def parse_format(name: str) -> WeightFormat:
    """The format called `name`.

    "int4-128" (4 bits in groups of 128, with zero points), "int8-128" (8 bits in groups), "nf4-64", "int8" (8 bits with
    one scale an output and 8-bit activations), "int8-table" (the same, for an embedding that is lm_head too), "fp16".
    Raises InvalidOption.
    """
    if name in _WITHOUT_GROUPS:
        return _WITHOUT_GROUPS[name]
    found = _NAME.fullmatch(name)
    if not found or int(found[2]) not in BLOCK_SIZES:
        sizes = ", ".join(map(str, BLOCK_SIZES))
        raise InvalidOption("formats", name, f"must be int8, fp16, int4-N, int8-N or nf4-N with N one of {sizes}")
    if found[1] == "nf4":
        return WeightFormat(kind="nf4", bits=4, block_size=int(found[2]))
    bits = int(found[1][-1])
    return WeightFormat(kind="block", bits=bits, block_size=int(found[2]), symmetric=bits == 8)


def format_name(weights: WeightFormat) -> str:
    """What `parse_format` calls `weights`."""
    if not weights.has_blocks:
        return next((name for name, format_ in _WITHOUT_GROUPS.items() if format_ == weights), f"fp{weights.bits}")
    return f"{'nf' if weights.kind == 'nf4' else 'int'}{weights.bits}-{weights.block_size}"

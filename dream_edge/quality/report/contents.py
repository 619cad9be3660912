"""What a report is made of. Every part but the comparisons may be missing; what is missing is not on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dream_edge_runtime.artifact import Artifact

from ..comparison import Comparison
from ..sensitivity.effects import Sensitivity
from ..sensitivity.heat_map import COLUMNS, table


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """What rounding one matrix alone costs: KL in nats [layers][columns]; None where it was not measured."""

    format: str
    columns: Sequence[str]
    rows: Sequence[Sequence[float | None]]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One artifact: what it costs, and what it takes.

    size: bytes of all its files. bits: stored bits of the average weight.
    """

    comparison: Comparison
    size: int
    bits: float

    @classmethod
    def of(cls, artifact: Artifact, comparison: Comparison) -> Entry:
        """The size is that of the graph for CPUs where there is one."""
        manifest = artifact.manifest
        formats = manifest.recipe.targets.get("cpu") or next(iter(manifest.recipe.targets.values()))
        return cls(comparison=comparison, size=artifact.size, bits=formats.bits_per_weight(manifest.config))

    @property
    def name(self) -> str:
        return self.comparison.artifact


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Which artifact fits a memory. `needed` is in bytes, by name, with those that do not fit."""

    memory: int
    needed: dict[str, int]
    chosen: str | None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Artifacts of one checkpoint, all compared on the same masks."""

    reference: str
    producer: str
    entries: tuple[Entry, ...]
    heat_maps: tuple[HeatMap, ...] = ()
    advice: Advice | None = None

    def __post_init__(self) -> None:
        if not self.entries:
            raise ValueError("a report is about at least one artifact")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        from .verdict import verdict

        return {
            "reference": self.reference,
            "producer": self.producer,
            "artifacts": [
                {
                    **entry.comparison.to_dict(),
                    "bytes": entry.size,
                    "bits_per_weight": entry.bits,
                    "verdict": {"grade": (found := verdict(entry)).grade.name, "text": found.text},
                }
                for entry in self.entries
            ],
            "heat_maps": [
                {"format": each.format, "columns": [*each.columns], "kl": [[*row] for row in each.rows]}
                for each in self.heat_maps
            ],
            "advice": None
            if self.advice is None
            else {
                "memory_bytes": self.advice.memory,
                "needed_bytes": self.advice.needed,
                "chosen": self.advice.chosen,
            },
        }


def heat_maps(found: Sensitivity) -> tuple[HeatMap, ...]:
    """One map for each format that was tried."""
    return tuple(
        HeatMap(
            format=format_,
            columns=COLUMNS,
            rows=[[None if value != value else float(value) for value in row] for row in table(found, format_)],
        )
        for format_ in found.formats
    )

"""What a report is made of. Every part but the comparisons may be missing; what is missing is not on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.format.memory import estimate_memory

from ..comparison import Comparison
from ..sensitivity.effects import HeatMap
from .verdict import Verdict, judge


@dataclass(frozen=True, kw_only=True)
class ReportEntry:
    """One artifact: what it costs, and what it takes.

    size: bytes of all its files. bits: stored bits of the average weight. memory: bytes on the processor at the worst
    moment of a pass of 512 tokens, as `dream-edge info` estimates them; without the interpreter.
    """

    comparison: Comparison
    size: int
    bits: float
    memory: int

    @classmethod
    def of(cls, artifact: Artifact, comparison: Comparison) -> ReportEntry:
        """The figures are those of the graph for CPUs where there is one."""
        manifest = artifact.manifest
        formats = manifest.recipe.targets.get("cpu") or next(iter(manifest.recipe.targets.values()))
        return cls(
            comparison=comparison,
            size=artifact.size,
            bits=formats.bits_per_weight(manifest.config),
            memory=estimate_memory(manifest.config, formats).total,
        )

    @property
    def name(self) -> str:
        """The artifact's."""
        return self.comparison.artifact

    @property
    def verdict(self) -> Verdict:
        """The figures in two sentences."""
        return judge(self.comparison)


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Which artifact fits a memory. `needed` is in bytes, by name, with those that do not fit."""

    memory: int
    needed: dict[str, int]
    chosen: str | None

    @property
    def text(self) -> str:
        """For people."""
        chosen = f"take {self.chosen}" if self.chosen else "none of these fits"
        needed = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in self.needed.items())
        return f"For {self.memory / 1e9:.1f} GB of memory: {chosen}. Needed while running: {needed}."


def advise(entries: Sequence[ReportEntry], memory: int) -> Advice:
    """Choose the one with the lowest mean KL of those that fit into `memory` bytes."""
    fitting = [entry for entry in entries if entry.memory <= memory]
    best = min(fitting, key=lambda entry: entry.comparison.overall.kl_mean, default=None)
    needed = {entry.name: entry.memory for entry in entries}
    return Advice(memory=memory, needed=needed, chosen=None if best is None else best.name)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """One or more artifacts of one checkpoint, all compared on the same masks."""

    reference: str
    producer: str
    entries: tuple[ReportEntry, ...]
    heat_maps: tuple[HeatMap, ...] = ()
    advice: Advice | None = None

    @property
    def basis(self) -> str:
        """What the figures rest on."""
        return self.entries[0].comparison.basis

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        advice = self.advice
        return {
            "reference": self.reference,
            "producer": self.producer,
            "artifacts": [
                {
                    **entry.comparison.to_dict(),
                    "bytes": entry.size,
                    "bits_per_weight": entry.bits,
                    "verdict": {"grade": entry.verdict.grade.name, "text": entry.verdict.text},
                }
                for entry in self.entries
            ],
            "heat_maps": [
                {"format": each.format, "columns": [*each.columns], "kl": [[*row] for row in each.rows]}
                for each in self.heat_maps
            ],
            "advice": advice
            and {"memory_bytes": advice.memory, "needed_bytes": advice.needed, "chosen": advice.chosen},
        }

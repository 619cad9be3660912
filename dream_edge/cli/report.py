"""What a comparison leaves for people: a report, and the summary in model cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .terminal.io import note

if TYPE_CHECKING:
    from dream_edge.quality import Comparison
    from dream_edge.quality.report import Advice, HeatMap
    from dream_edge_runtime.artifact import Artifact


Directory = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write a report for people: one HTML page with pictures, Markdown and JSON."),
]


@dataclass(frozen=True, kw_only=True)
class AskedReport:
    """What was asked for on the command line.

    report: a directory. sensitivity: what `dream-edge sensitivity --out` wrote. cards: whether to write into cards.
    """

    report: Path | None
    sensitivity: Path | None = None
    cards: bool = False

    def check(self) -> None:
        """Before anything is measured: raises what writing would raise. A lone --sensitivity does nothing."""
        from dream_edge.quality.report import check_report

        if self.report is not None:
            check_report(self.report)
        self.heat_maps()

    def heat_maps(self) -> tuple[HeatMap, ...]:
        if self.sensitivity is None:
            return ()
        from dream_edge.quality.report import heat_maps
        from dream_edge.quality.sensitivity.effects import Sensitivity

        return heat_maps(Sensitivity.read(self.sensitivity))

    def write(
        self,
        artifacts: Sequence[Artifact],
        comparisons: Sequence[Comparison],
        reference: str,
        advice: Advice | None = None,
    ) -> None:
        """Write all of it, and say where it is."""
        from dream_edge import __version__
        from dream_edge.quality.report import Contents, Entry, update_card, write_report

        entries = tuple(map(Entry.of, artifacts, comparisons))
        if self.report is not None:
            contents = Contents(
                reference=reference,
                producer=f"dream-edge {__version__}",
                entries=entries,
                heat_maps=self.heat_maps(),
                advice=advice,
            )
            note(f"The report: {write_report(self.report, contents)}")
        if self.cards:
            for artifact, entry in zip(artifacts, entries, strict=True):
                note(f"The summary is in {update_card(artifact, entry, reference)}")

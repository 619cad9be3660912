"""What a comparison leaves for people: a report, and a summary in cards."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dream_edge_runtime.artifact import Artifact
from dream_edge_runtime.errors import MissingExtra
from dream_edge_runtime.files.writing import explain_write_errors, list_entries, move, remove_tree
from dream_edge_runtime.host import installed_version

from ..comparison import Comparison
from ..errors import ReportForeign
from ..sensitivity.effects import HeatMap, Sensitivity
from .contents import Advice, Contents, ReportEntry
from .markdown import render_markdown, update_card
from .page import read_file, render_page
from .pictures import ROLES, Picture, draw_pictures

FILES = ("report.html", "report.md", "report.json")
PICTURES = "pictures"
_PARTIAL = ".report.partial"

_SVG = '<svg xmlns="http://www.w3.org/2000/svg"'
_LIGHT = re.compile(r"(--[\w-]+): (#[0-9a-f]{6})")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Output:
    """What is to be written after a comparison; nothing where `report` is None and `cards` False.

    Attributes:
        heat_maps: for the report.
        cards: whether a summary goes into each artifact's model card.
    """

    report: Path | None
    heat_maps: tuple[HeatMap, ...]
    cards: bool

    @classmethod
    def check(
        cls, report: str | Path | None, *, sensitivity: str | Path | None = None, update_card: bool = False
    ) -> Output:
        """Raise, before anything is measured, what writing would raise. `sensitivity` is a file of measured ones.

        Raises: ReportForeign, MeasurementsUnfit, MissingExtra.
        """
        directory = None if report is None else Path(report)
        if directory is not None:
            check_report(directory)
        maps = () if sensitivity is None else Sensitivity.read(Path(sensitivity)).heat_maps()
        return cls(report=directory, heat_maps=maps, cards=update_card)

    def write(
        self,
        artifacts: Sequence[Artifact],
        comparisons: Sequence[Comparison],
        reference: str,
        advice: Advice | None = None,
    ) -> None:
        """Write all of it, and log where it is. Raises ReportForeign, NotWritable."""
        entries = tuple(map(ReportEntry.of, artifacts, comparisons))
        if self.report is not None:
            contents = Contents(
                reference=reference,
                producer=f"dream-edge {installed_version()}",
                entries=entries,
                heat_maps=self.heat_maps,
                advice=advice,
            )
            _log.info("The report: %s", write_report(self.report, contents))
        if self.cards:
            for artifact, entry in zip(artifacts, entries, strict=True):
                _log.info("The summary is in %s", update_card(artifact, entry, reference))


def check_report(directory: Path) -> None:
    """Raises ReportForeign when `directory` holds anything but an earlier report, MissingExtra without libraries."""
    if find_spec("jinja2") is None or find_spec("matplotlib") is None:
        raise MissingExtra("Writing a report", "report")
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise ReportForeign(directory)
    if directory.is_dir() and not _is_report(directory):
        raise ReportForeign(directory)


def write_report(directory: Path, contents: Contents) -> Path:
    """Write report.html, report.md, report.json and pictures; an earlier report there is replaced. Gives the page.

    Raises: ReportForeign, NotWritable, MissingExtra.
    """
    check_report(directory)
    pictures = draw_pictures(contents)
    files = {
        "report.html": render_page(contents, pictures),
        "report.md": render_markdown(contents, pictures),
        "report.json": json.dumps(contents.to_dict(), indent=1, allow_nan=False) + "\n",
    } | {f"{PICTURES}/{each.name}.svg": to_file(each) for each in pictures}
    with explain_write_errors(directory):
        _put(directory, files)
    return directory / "report.html"


def to_file(picture: Picture) -> str:
    """The picture as a file by itself, in light colours on paper."""
    style = read_file("page.css")
    colours = dict(_LIGHT.findall(style[: style.index("@media")]))
    svg = picture.svg
    for role in ROLES.values():
        svg = svg.replace(f"var({role})", colours[role])
    paper = f'<rect width="100%" height="100%" fill="{colours["--paper"]}"/>'
    head, _, rest = svg.partition(">")
    return f"{head.replace('<svg', _SVG, 1)}>{paper}{rest}\n"


def _put(directory: Path, files: Mapping[str, str]) -> None:
    """Move files into `directory` once all are written. It is not replaced: it may be a mount point, or worked in."""
    fresh, pictures = directory / _PARTIAL, directory / PICTURES
    (fresh / PICTURES).mkdir(parents=True, exist_ok=True)
    try:
        for name, text in files.items():
            (fresh / name).write_text(text, encoding="utf-8", newline="\n")
        pictures.mkdir(exist_ok=True)
        for name in files:
            move(fresh / name, directory / name)
        for picture in pictures.iterdir():
            if f"{PICTURES}/{picture.name}" not in files:
                picture.unlink()
    finally:
        remove_tree(fresh)


def _is_report(directory: Path) -> bool:
    """Whether there is nothing but what this module writes, all of it or none, or what it left when it was killed."""
    entries = {each.name: each for each in list_entries(directory)}
    was_killed, drawn = entries.pop(_PARTIAL, None) is not None, entries.pop(PICTURES, None)
    if not (entries.keys() == set(FILES) or (was_killed and entries.keys() < set(FILES)) or not (entries or drawn)):
        return False
    if not all(entry.is_file() for entry in entries.values()):
        return False
    return drawn is None or (
        drawn.is_dir() and not drawn.is_symlink() and all(each.suffix == ".svg" for each in drawn.iterdir())
    )

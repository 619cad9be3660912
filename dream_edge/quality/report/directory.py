"""A report on the disk: written beside its place and put there whole."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from ..errors import ReportForeign, ReportNotWritable
from .contents import Contents
from .markdown import markdown
from .page import page
from .pictures import ROLES, Picture, pictures, require_matplotlib

FILES = ("report.html", "report.md", "report.json")
PICTURES = "pictures"

_SVG = '<svg xmlns="http://www.w3.org/2000/svg"'
_LIGHT = re.compile(r"(--[\w-]+): (#[0-9a-f]{6})")


def check_report(directory: Path) -> None:
    """Raises ReportForeign when `directory` holds anything but an earlier report, MissingExtra without Matplotlib."""
    require_matplotlib()
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise ReportForeign(directory)
    if directory.is_dir() and any(directory.iterdir()) and not _is_report(directory):
        raise ReportForeign(directory)


def write_report(directory: Path, contents: Contents) -> Path:
    """Write report.html, report.md, report.json and pictures; an earlier report there is replaced. Gives the page.

    Raises:
        ReportForeign: `directory` holds something else.
        ReportNotWritable: the disk says no.
        MissingExtra: Matplotlib is not installed.
    """
    directory = Path(directory)
    check_report(directory)
    drawn = pictures(contents)
    files = {
        "report.html": page(contents, drawn),
        "report.md": markdown(contents, drawn),
        "report.json": json.dumps(contents.to_dict(), indent=1, allow_nan=False) + "\n",
    } | {f"{PICTURES}/{each.name}.svg": standalone(each) for each in drawn}
    try:
        _put(directory, files)
    except OSError as error:
        if isinstance(error, ReportForeign):
            raise
        raise ReportNotWritable(directory, error.strerror or str(error)) from error
    return directory / "report.html"


def standalone(picture: Picture) -> str:
    """The picture as a file of its own, in light colours on paper."""
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    colours = dict(_LIGHT.findall(style[: style.index("@media")]))
    svg = picture.svg
    for role in ROLES.values():
        svg = svg.replace(f"var({role})", colours[role])
    paper = f'<rect width="100%" height="100%" fill="{colours["--paper"]}"/>'
    head, _, rest = svg.partition(">")
    return f"{head.replace('<svg', _SVG, 1)}>{paper}{rest}\n"


def _put(directory: Path, files: dict[str, str]) -> None:
    goal = directory.absolute()
    goal.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{goal.name}.", dir=goal.parent))
    try:
        fresh, old = beside / "new", beside / "old"
        (fresh / PICTURES).mkdir(parents=True)
        for name, text in files.items():
            (fresh / name).write_text(text, encoding="utf-8", newline="\n")
        check_report(goal)
        if goal.exists():
            goal.replace(old)
        try:
            fresh.replace(goal)
        except OSError:
            if old.exists():
                old.replace(goal)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _is_report(directory: Path) -> bool:
    """Whether there is nothing but what this module writes."""
    entries = {entry.name: entry for entry in directory.iterdir()}
    drawn = entries.pop(PICTURES, None)
    if entries.keys() != set(FILES) or not all(entry.is_file() for entry in entries.values()):
        return False
    return drawn is None or (
        drawn.is_dir() and not drawn.is_symlink() and all(each.suffix == ".svg" for each in drawn.iterdir())
    )
